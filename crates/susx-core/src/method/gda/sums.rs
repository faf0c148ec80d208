//! Weighted means and covariance of a support set.

use ndarray::{Array1, Array2, Axis, s};
use serde::{Deserialize, Serialize};

use super::precision::Scatter;
use crate::interrupt;
use crate::linalg::block_rows;
use crate::sus::SupportSet;

/// Most rows that are in memory in float64 at the same time.
const BLOCK: usize = 1024;
/// A category whose rows weigh less counts as one without rows.
pub(in crate::method) const MIN_MASS: f64 = 1e-9;

/// Weighted sums over a support set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::method) struct Sums {
    /// Weight of each row, M.
    #[serde(with = "crate::as_bytes::numbers")]
    pub weights: Vec<f64>,
    /// Sum of the weights in each category, C.
    pub mass: Vec<f64>,
    /// Weighted mean of the rows of each category, C × d; the mean of all rows for a category without rows.
    #[serde(with = "crate::as_bytes::matrix")]
    pub means: Array2<f64>,
    /// Covariance within the categories.
    pub scatter: Scatter,
}

impl Sums {
    /// O(M d min(M, d)).
    pub fn of(support_set: &SupportSet, weights: Vec<f64>) -> Self {
        let (categories, dimensions) = (support_set.categories().len(), support_set.likeness().ncols());
        let mut means = Array2::<f64>::zeros((categories, dimensions));
        let mut overall = Array1::<f64>::zeros(dimensions);
        let mut mass = vec![0.0; categories];
        for (c, mut sum) in means.rows_mut().into_iter().enumerate() {
            let rows = support_set.rows(c);
            let features = support_set.likeness().slice_move(s![rows.clone(), ..]);
            for (row, feature) in rows.zip(features.rows()) {
                interrupt::check();
                sum.zip_mut_with(&feature, |sum, &x| *sum += weights[row] * f64::from(x));
                mass[c] += weights[row];
            }
            overall += &sum;
        }
        overall /= mass.iter().sum::<f64>().max(MIN_MASS);
        for (mut mean, &mass) in means.rows_mut().into_iter().zip(&mass) {
            if mass < MIN_MASS {
                mean.assign(&overall);
            } else {
                mean /= mass;
            }
        }
        let scatter = Scatter::of(dimensions, support_set.len(), |add| {
            let rows_per_block = block_rows(dimensions, BLOCK);
            for start in (0..support_set.len()).step_by(rows_per_block) {
                interrupt::check();
                let rows = start..(start + rows_per_block).min(support_set.len());
                let mut block = support_set.likeness().slice(s![rows.clone(), ..]).mapv(f64::from);
                for (mut x, row) in block.axis_iter_mut(Axis(0)).zip(rows) {
                    x -= &means.row(support_set.category_of(row));
                    x *= weights[row].sqrt();
                }
                add(block);
            }
        });
        Sums { weights, mass, means, scatter }
    }

    /// Whether a category has rows besides this one.
    pub fn has_others(&self, row: usize, category: usize) -> bool {
        self.mass[category] - self.weights[row] >= MIN_MASS
    }
}
