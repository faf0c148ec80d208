//! Means and covariance of a support set.

use ndarray::{Array1, Array2, Axis, s};

use super::confidence;
use super::precision::Scatter;
use crate::sus::SupportSet;

/// Rows that are wide (float64) in memory at a time.
const BLOCK: usize = 1024;
/// Support rows that weigh as much as the doubt about a category that has any.
const DOUBT: f64 = 4.0;
/// Of the weight of all rows, what the covariance is divided by at least.
const LEAST_FREEDOM: f64 = 0.2;

/// What the discriminant knows of a support set before its ridge.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    /// M.
    pub confidence: Vec<f64>,
    /// The sum of each category's confidences, C.
    pub mass: Vec<f64>,
    /// Of each category the weighted mean of its rows, C x d; of one without rows that of all rows.
    pub means: Array2<f64>,
    /// How far each category's support can be trusted, 0 to 1, C.
    pub reliability: Vec<f64>,
    /// The covariance within the categories.
    pub scatter: Scatter,
}

impl Moments {
    /// Of a support set that is not empty. O(M C d + M d min(M, d)).
    pub fn of(support_set: &SupportSet) -> Self {
        let confidence = confidence::of_rows(support_set);
        let (categories, dimensions) = support_set.zeroshot_weights().dim();
        let mut means = Array2::<f64>::zeros((categories, dimensions));
        let mut overall = Array1::<f64>::zeros(dimensions);
        let (mut mass, mut reliability) = (vec![0.0; categories], vec![0.0; categories]);
        for c in 0..categories {
            let rows = support_set.rows(c);
            let mut sum = means.row_mut(c);
            for (row, feature) in rows.clone().zip(support_set.features().slice(s![rows.clone(), ..]).rows())
            {
                sum.zip_mut_with(&feature, |sum, &x| *sum += confidence[row] * f64::from(x));
                mass[c] += confidence[row];
            }
            overall += &sum;
            if !rows.is_empty() {
                let count = rows.len() as f64;
                reliability[c] = mass[c] / count * (count / (count + DOUBT));
            }
        }
        let total: f64 = mass.iter().sum();
        for (mut mean, &mass) in means.rows_mut().into_iter().zip(&mass) {
            if mass > 0.0 {
                mean /= mass;
            } else {
                mean.assign(&(&overall / total));
            }
        }
        let freedom = (total - categories as f64).max(LEAST_FREEDOM * total);
        let scatter = Scatter::of(dimensions, support_set.len(), |add| {
            for start in (0..support_set.len()).step_by(BLOCK) {
                let rows = start..(start + BLOCK).min(support_set.len());
                let mut block = support_set.features().slice(s![rows.clone(), ..]).mapv(f64::from);
                for (mut x, row) in block.axis_iter_mut(Axis(0)).zip(rows) {
                    x -= &means.row(support_set.category_of(row));
                    x *= (confidence[row] / freedom).sqrt();
                }
                add(block);
            }
        });
        Moments { confidence, mass, means, reliability, scatter }
    }
}
