//! Support rows as queries of the discriminant that would be fitted without them.

use ndarray::{Array2, Axis};

use super::discriminant::{Discriminant, centred};
use super::moments::Sums;
use crate::interrupt;
use crate::linalg::{block_rows, product};
use crate::sus::SupportSet;

/// Rows whose discriminants are in memory at a time, at most.
const BLOCK: usize = 1024;

impl Discriminant {
    /// `g` in the range of the cosines (n x C) of some support rows (n), each by the fit without that row, in
    /// closed form: its category's mean moves, and the covariance loses a matrix of rank one, which Sherman and
    /// Morrison's formula takes through the inverse. What is a mean over all rows stays as it is, the variance,
    /// the factor to the cosines' range, the shift and the scales of the confidences: a row more or less hardly
    /// moves them. O(n d (C + min(M, d))).
    ///
    /// A category that was only this row is worth the mean of the others.
    pub fn without(&self, support_set: &SupportSet, sums: &Sums, rows: &[usize]) -> Array2<f64> {
        let features = support_set.features().select(Axis(0), rows).mapv(f64::from);
        let truth: Vec<usize> = rows.iter().map(|&row| support_set.category_of(row)).collect();
        let (means, variance) = (sums.means.view(), sums.scatter.variance());
        let mut own = self.precision.apply(features.view());
        let mut g = product(own.view(), means);
        // P v, with v the row less its category's mean.
        for (mut pull, &c) in own.rows_mut().into_iter().zip(&truth) {
            pull -= &self.weights.row(c);
            pull -= &self.mean_weight;
        }
        let across = product(own.view(), means);
        for (place, (&row, &c)) in rows.iter().zip(&truth).enumerate() {
            interrupt::check();
            let (weight, mass) = (sums.weights[row], sums.mass[c]);
            let left = mass - weight;
            let along = features.row(place).dot(&own.row(place));
            // v . P v, and what Sherman and Morrison make of it.
            let spread = along - across[(place, c)];
            let has_others = sums.has_others(row, c);
            let lost = match variance {
                Some(variance) if has_others => weight * mass / (left * variance),
                _ => 0.0,
            };
            let factor = lost / (1.0 - lost * spread);
            let grown = 1.0 + factor * spread;
            let mut sum = 0.0;
            for k in 0..g.ncols() {
                let toward = across[(place, k)];
                // mu_k . P mu_k is -2 b_k.
                let norm = -2.0 * (self.bias[k] + self.mean_bias) + factor * toward * toward;
                g[(place, k)] += factor * along * toward - 0.5 * norm;
                sum += g[(place, k)];
            }
            if has_others {
                // Its mean moves away from the row by so much of v.
                let step = weight / left;
                let towards = across[(place, c)] * grown;
                g[(place, c)] += step * (towards - along * grown) - 0.5 * step * step * spread * grown;
            } else {
                let others = (g.ncols() - 1).max(1) as f64;
                g[(place, c)] = (sum - g[(place, c)]) / others;
            }
        }
        centred(g) * self.scale - &self.shift
    }

    /// As [`without`](Self::without), of any number of rows: `see` has each block of them.
    pub fn each_without(
        &self,
        support_set: &SupportSet,
        sums: &Sums,
        rows: &[usize],
        mut see: impl FnMut(&[usize], Array2<f64>),
    ) {
        let (categories, dimensions) = support_set.zeroshot_weights().dim();
        for rows in rows.chunks(block_rows(categories.max(dimensions), BLOCK)) {
            see(rows, self.without(support_set, sums, rows));
        }
    }
}
