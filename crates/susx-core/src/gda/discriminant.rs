//! The discriminant of a support set in float64.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::moments::{Moments, Sums};
use super::precision::Precision;
use crate::interrupt;
use crate::linalg::product;
use crate::sus::SupportSet;

/// Spreads below this are those of rounding: nothing is told apart.
const NO_SPREAD: f64 = 1e-12;

/// `g_c(x) = x . w_c + b_c` less its mean over the categories, in the range of the cosines and less a shift.
#[derive(Clone, Debug)]
pub(super) struct Discriminant {
    pub precision: Precision,
    /// `w_c` less their mean, C x d.
    pub weights: Array2<f64>,
    /// `b_c` less their mean, C.
    pub bias: Array1<f64>,
    /// The means that were taken off.
    pub mean_weight: Array1<f64>,
    pub mean_bias: f64,
    /// What brings `g` into the range of the cosines: the ratio of their spreads over the categories, each
    /// the mean over the support rows.
    pub scale: f64,
    /// What the support set prefers a category by, as far as that is to be taken off, C.
    pub shift: Array1<f64>,
    /// The spread of the cosines.
    pub range: f64,
}

impl Discriminant {
    /// As it is, with a scale of 1 and no shift. O(C d min(M, d) + min(M, d)^3).
    pub fn of(sums: &Sums, ridge: f64) -> Self {
        let precision = sums.scatter.precision(ridge);
        let mut weights = precision.apply(sums.means.view());
        let mut bias = Array1::from_iter(
            weights.rows().into_iter().zip(sums.means.rows()).map(|(w, mean)| -0.5 * w.dot(&mean)),
        );
        let categories = bias.len() as f64;
        let (mean_weight, mean_bias) = (weights.sum_axis(Axis(0)) / categories, bias.sum() / categories);
        weights -= &mean_weight;
        bias -= mean_bias;
        let shift = Array1::zeros(bias.len());
        Discriminant { precision, weights, bias, mean_weight, mean_bias, scale: 1.0, shift, range: 1.0 }
    }

    /// In the range of the cosines, and shifted; `None` where it, or the names, tell no two categories apart. As
    /// [`of`](Self::of), and O(n C d) of n = min(M, 4096) rows; O(n d (C + min(M, d))) where there is something to
    /// take off.
    pub fn fit(support_set: &SupportSet, moments: &Moments, ridge: f64) -> Option<Self> {
        let discriminant = Self::of(&moments.sums, ridge);
        let sample = support_set.sample();
        let features = support_set.features().select(Axis(0), &sample).mapv(f64::from);
        let range = range_of_names(support_set, features.view());
        let own = mean_spread(discriminant.scaled(features.view()));
        if own <= NO_SPREAD || range <= NO_SPREAD {
            return None;
        }
        let mut discriminant = Discriminant { scale: range / own, range, ..discriminant };
        if moments.unsettled > 0.0 {
            let mut sum = Array1::zeros(discriminant.bias.len());
            discriminant
                .each_without(support_set, &moments.sums, &sample, |_, g| sum += &g.sum_axis(Axis(0)));
            discriminant.shift = sum * (moments.unsettled / sample.len() as f64);
        }
        Some(discriminant)
    }

    /// Of a fit that is not shifted: in the range in which its support rows are as far from each other as their
    /// cosines, each by the fit without it. `None` as for [`fit`](Self::fit).
    pub fn in_range(mut self, support_set: &SupportSet, sums: &Sums) -> Option<Self> {
        let sample = support_set.sample();
        let features = support_set.features().select(Axis(0), &sample).mapv(f64::from);
        let (mut spread, range) = (0.0, range_of_names(support_set, features.view()));
        self.each_without(support_set, sums, &sample, |rows, g| spread += mean_spread(g) * rows.len() as f64);
        let own = spread / sample.len() as f64;
        (self.scale, self.range) = (range / own, range);
        (own > NO_SPREAD && range > NO_SPREAD).then_some(self)
    }

    /// `g_c` in the range of the cosines and shifted, n x C, of queries n x d.
    pub fn scaled(&self, queries: ArrayView2<f64>) -> Array2<f64> {
        (product(queries, self.weights.view()) + &self.bias) * self.scale - &self.shift
    }

    /// Bytes on the heap.
    pub fn size(&self) -> usize {
        let elements = self.weights.len() + self.bias.len() + self.mean_weight.len() + self.shift.len();
        self.precision.size() + elements * size_of::<f64>()
    }
}

/// Rows less their means.
pub(super) fn centred(mut rows: Array2<f64>) -> Array2<f64> {
    for mut row in rows.rows_mut() {
        interrupt::check();
        let mean = row.sum() / row.len() as f64;
        row -= mean;
    }
    rows
}

/// The spread over the categories of the cosines of some support rows, n x d.
fn range_of_names(support_set: &SupportSet, features: ArrayView2<f64>) -> f64 {
    mean_spread(product(features, support_set.zeroshot_weights().mapv(f64::from).view()))
}

/// The mean over the rows of the standard deviation over the columns.
fn mean_spread(rows: Array2<f64>) -> f64 {
    rows.std_axis(Axis(1), 0.0).mean().unwrap_or(0.0)
}
