//! The discriminant of a support set, in float64.

use ndarray::{Array1, Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::precision::Precision;
use super::sums::Sums;
use crate::interrupt;
use crate::linalg::product;

/// `g_c(x) = x . w_c + b_c` minus its mean over the categories, scaled to the range of the cosines and shifted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::method) struct Discriminant {
    pub precision: Precision,
    /// `w_c` minus their mean, C × d.
    #[serde(with = "crate::as_bytes::matrix")]
    pub weights: Array2<f64>,
    /// `b_c` minus their mean, C.
    pub bias: Array1<f64>,
    /// Mean of the `w_c`, d.
    pub mean_weight: Array1<f64>,
    /// Mean of the `b_c`.
    pub mean_bias: f64,
    /// Brings `g` into the range of the cosines: the ratio of their standard deviations over the categories, each
    /// averaged over the support rows.
    pub scale: f64,
    /// The part of the support set's category bias that is removed, C.
    pub shift: Array1<f64>,
    /// Standard deviation of the cosines over the categories.
    pub range: f64,
}

impl Discriminant {
    /// Not calibrated: with a scale of 1 and no shift. O(C d min(M, d) + min(M, d)^3).
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

    /// `g_c` in the range of the cosines and shifted, n × C, of queries n × d.
    pub fn scaled(&self, queries: ArrayView2<f64>) -> Array2<f64> {
        (product(queries, self.weights.view()) + &self.bias) * self.scale - &self.shift
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        let elements = self.weights.len() + self.bias.len() + self.mean_weight.len() + self.shift.len();
        self.precision.size() + elements * size_of::<f64>()
    }
}

/// Rows minus their means.
pub(super) fn centred(mut rows: Array2<f64>) -> Array2<f64> {
    for mut row in rows.rows_mut() {
        interrupt::check();
        let mean = row.sum() / row.len() as f64;
        row -= mean;
    }
    rows
}
