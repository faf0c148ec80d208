//! The discriminant of a support set in float64.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::moments::Sums;
use super::precision::Precision;
use crate::linalg::product;
use crate::sus::SupportSet;

/// Spreads below this are those of rounding: nothing is told apart.
const NO_SPREAD: f64 = 1e-12;

/// `g_c(x) = x . w_c + b_c` less its mean over the categories.
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
    /// The spread of the cosines.
    pub range: f64,
}

impl Discriminant {
    /// As it is, with a scale of 1. O(C d min(M, d) + min(M, d)^3).
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
        Discriminant { precision, weights, bias, mean_weight, mean_bias, scale: 1.0, range: 1.0 }
    }

    /// In the range of the cosines; `None` where it, or the names, tell no two categories apart. As
    /// [`of`](Self::of), and O(min(M, 4096) C d).
    pub fn fit(support_set: &SupportSet, sums: &Sums, ridge: f64) -> Option<Self> {
        let discriminant = Self::of(sums, ridge);
        let sample = support_set.features().select(Axis(0), &support_set.sample()).mapv(f64::from);
        let names = support_set.zeroshot_weights().mapv(f64::from);
        let range = mean_spread(product(sample.view(), names.view()));
        let own = mean_spread(discriminant.scaled(sample.view()));
        let is_flat = own <= NO_SPREAD || range <= NO_SPREAD;
        (!is_flat).then_some(Discriminant { scale: range / own, range, ..discriminant })
    }

    /// `g_c` in the range of the cosines, n x C, of queries n x d.
    pub fn scaled(&self, queries: ArrayView2<f64>) -> Array2<f64> {
        (product(queries, self.weights.view()) + &self.bias) * self.scale
    }

    /// Bytes on the heap.
    pub fn size(&self) -> usize {
        let elements = self.weights.len() + self.bias.len() + self.mean_weight.len();
        self.precision.size() + elements * size_of::<f64>()
    }
}

/// The mean over the rows of the standard deviation over the columns.
fn mean_spread(rows: Array2<f64>) -> f64 {
    rows.std_axis(Axis(1), 0.0).mean().unwrap_or(0.0)
}
