//! Support rows as queries of the discriminant that would be fitted without them.

use ndarray::{Array2, Axis};

use super::discriminant::{Discriminant, centred};
use super::sums::Sums;
use crate::interrupt;
use crate::linalg::{block_rows, product};
use crate::sus::SupportSet;

/// Most rows whose discriminants are in memory at the same time.
const BLOCK: usize = 1024;

impl Discriminant {
    /// `g` in the range of the cosines (n × C) of some support rows (n), each by the fit without that row, in closed
    /// form: the mean of its category moves, and the covariance loses a matrix of rank one, for which the
    /// Sherman-Morrison formula updates the inverse. Means over all rows stay as they are, because one row hardly changes
    /// them: the variance, the scale, the shift and the scales of the confidences. O(n d (C + min(M, d))).
    ///
    /// A category whose only row is left out scores the mean of the other categories.
    pub fn without(&self, support_set: &SupportSet, sums: &Sums, rows: &[usize]) -> Array2<f64> {
        let features = support_set.likeness().select(Axis(0), rows).mapv(f64::from);
        let truth: Vec<usize> = rows.iter().map(|&row| support_set.category_of(row)).collect();
        let (means, variance) = (sums.means.view(), sums.scatter.variance());
        let mut own = self.precision.apply(features.view());
        let mut g = product(own.view(), means);
        // P v, where v is the row minus the mean of its category.
        for (mut own, &c) in own.rows_mut().into_iter().zip(&truth) {
            own -= &self.weights.row(c);
            own -= &self.mean_weight;
        }
        let across = product(own.view(), means);
        for (query, (&row, &c)) in rows.iter().zip(&truth).enumerate() {
            interrupt::check();
            let (weight, mass) = (sums.weights[row], sums.mass[c]);
            let left = mass - weight;
            let along = features.row(query).dot(&own.row(query));
            // v . P v, from which the Sherman-Morrison factor follows.
            let spread = along - across[(query, c)];
            let has_others = sums.has_others(row, c);
            let lost = match variance {
                Some(variance) if has_others => weight * mass / (left * variance),
                _ => 0.0,
            };
            let factor = lost / (1.0 - lost * spread);
            let grown = 1.0 + factor * spread;
            let mut sum = 0.0;
            for k in 0..g.ncols() {
                let toward = across[(query, k)];
                // mu_k . P mu_k = -2 b_k.
                let norm = -2.0 * (self.bias[k] + self.mean_bias) + factor * toward * toward;
                g[(query, k)] += factor * along * toward - 0.5 * norm;
                sum += g[(query, k)];
            }
            if has_others {
                // The mean moves away from the row by `step * v`.
                let step = weight / left;
                let towards = across[(query, c)] * grown;
                g[(query, c)] += step * (towards - along * grown) - 0.5 * step * step * spread * grown;
            } else {
                let others = (g.ncols() - 1).max(1) as f64;
                g[(query, c)] = (sum - g[(query, c)]) / others;
            }
        }
        centred(g) * self.scale - &self.shift
    }

    /// Like [`without`](Self::without) for any number of rows, block by block: `visit` gets the rows of a block and
    /// their discriminants.
    pub fn each_without(
        &self,
        support_set: &SupportSet,
        sums: &Sums,
        rows: &[usize],
        mut visit: impl FnMut(&[usize], Array2<f64>),
    ) {
        let (categories, dimensions) = (support_set.categories().len(), support_set.likeness().ncols());
        for rows in rows.chunks(block_rows(categories.max(dimensions), BLOCK)) {
            visit(rows, self.without(support_set, sums, rows));
        }
    }
}
