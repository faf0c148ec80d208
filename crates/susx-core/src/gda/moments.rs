//! Means and covariance of a support set.

use ndarray::{Array1, Array2, Axis, s};

use super::confidence::Confidence;
use super::precision::Scatter;
use crate::sus::SupportSet;

/// Rows that are wide (float64) in memory at a time.
const BLOCK: usize = 1024;
/// Support rows that weigh as much as the doubt about a category that has any.
const DOUBT: f64 = 4.0;
/// A category whose rows weigh less is one without rows.
const NO_MASS: f64 = 1e-9;
/// A category looks absent from a pool if the names are less sure of its images, on average.
const ABSENT: f64 = 1.0 / 3.0;

/// What the discriminant knows of a support set before its ridge.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    pub confidence: Confidence,
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
    pub fn of(support_set: &SupportSet, logit_scale: f32) -> Self {
        let confidence = Confidence::of(support_set, logit_scale);
        let weights = &confidence.rows;
        let (categories, dimensions) = support_set.zeroshot_weights().dim();
        let mut means = Array2::<f64>::zeros((categories, dimensions));
        let mut overall = Array1::<f64>::zeros(dimensions);
        let mut mass = vec![0.0; categories];
        for (c, mut sum) in means.rows_mut().into_iter().enumerate() {
            let rows = support_set.rows(c);
            let features = support_set.features().slice_move(s![rows.clone(), ..]);
            for (row, feature) in rows.zip(features.rows()) {
                sum.zip_mut_with(&feature, |sum, &x| *sum += weights[row] * f64::from(x));
                mass[c] += weights[row];
            }
            overall += &sum;
        }
        overall /= mass.iter().sum::<f64>().max(NO_MASS);
        for (mut mean, &mass) in means.rows_mut().into_iter().zip(&mass) {
            if mass < NO_MASS {
                mean.assign(&overall);
            } else {
                mean /= mass;
            }
        }
        let scatter = Scatter::of(dimensions, support_set.len(), |add| {
            for start in (0..support_set.len()).step_by(BLOCK) {
                let rows = start..(start + BLOCK).min(support_set.len());
                let mut block = support_set.features().slice(s![rows.clone(), ..]).mapv(f64::from);
                for (mut x, row) in block.axis_iter_mut(Axis(0)).zip(rows) {
                    x -= &means.row(support_set.category_of(row));
                    x *= weights[row].sqrt();
                }
                add(block);
            }
        });
        let reliability = (0..categories).map(|c| reliable(mass[c], support_set.rows(c).len())).collect();
        Moments { confidence, mass, means, reliability, scatter }
    }

    /// The reliability of a category without one of its rows, of which it had `count`.
    pub fn reliability_without(&self, row: usize, category: usize, count: usize) -> f64 {
        reliable(self.mass[category] - self.confidence.rows[row], count - 1)
    }
}

/// Of `count` rows that weigh `mass`: their mean confidence, times how far so many can be trusted.
fn reliable(mass: f64, count: usize) -> f64 {
    // (mass / count) * (count / (count + doubt)), which is 0 without rows.
    mass / (count as f64 + DOUBT)
}

/// How far each category's support can be trusted, 0 to 1, C; 0 for one without support. O(M C d).
pub fn reliability(support_set: &SupportSet, logit_scale: f32) -> Vec<f32> {
    let categories = 0..support_set.categories().len();
    if support_set.is_empty() {
        return vec![0.0; categories.len()];
    }
    let confidence = Confidence::of(support_set, logit_scale);
    let of_category = |c: usize| {
        let rows = support_set.rows(c);
        reliable(confidence.rows[rows.clone()].iter().sum(), rows.len()) as f32
    };
    categories.map(of_category).collect()
}

/// Whether a category with so many support images looks as if none of them shows it.
pub fn looks_absent(reliability: f32, count: usize) -> bool {
    count == 0 || f64::from(reliability) < ABSENT * reliable(count as f64, count)
}
