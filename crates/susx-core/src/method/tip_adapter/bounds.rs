//! How large the cache of a category can be, without looking at its support rows.
//!
//! Of the affinities `A_i` of a query to the rows of a category, two numbers are known from the category alone: their mean is
//! `m = f . mu` with the mean `mu` of the rows, and their variance is at most `v`, a bound of the largest eigenvalue of the
//! rows' covariance. None of them is larger than 1. Among all numbers with that mean and at most that variance, the mean of an
//! increasing exponential is largest where they have only two values, one of which is the largest (Bennett, JASA 1962): with
//! `b = 1 - m`,
//!
//! ```text
//! mean of exp(-beta (1 - A_i)) <= exp(-beta b) (b^2 exp(-beta v / b) + v exp(beta b)) / (b^2 + v)
//! ```
//!
//! The same holds where rows have weights, for the weighted means and variances.

use ndarray::{Array1, Array2, ArrayView2, s};
use serde::{Deserialize, Serialize};

use crate::interrupt;
use crate::linalg::{aligned, product, row_product};
use crate::sus::SupportSet;

/// Covers the rounding of sums and exponentials.
const SLACK: f32 = 1e-3;
/// How far a mean affinity may be rounded, and the smallest distance from 1 that is no rounding.
const ROUNDING: f32 = 1e-5;
const MIN_DISTANCE: f32 = ROUNDING;
/// A variance that is due to rounding.
const MIN_VARIANCE: f32 = 1e-7;

/// Rows of a category on average, below which bounds are not worth their costs.
const LEAST_ROWS: usize = 8;

/// What is known of the affinities of each category.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::method) struct CacheBounds {
    /// `mu`, C × e.
    #[serde(with = "crate::as_bytes::matrix")]
    means: Array2<f32>,
    /// `v`, C.
    variances: Vec<f32>,
    /// Sums of the weights, C.
    masses: Vec<f32>,
}

impl CacheBounds {
    /// The bounds of a support set that is worth them; without weights of the rows (M), these are 1. O(M e k + C k^3) for
    /// categories of `n_c` rows, with `k = min(n_c, e)`.
    pub fn of(support_set: &SupportSet, weights: Option<&[f32]>) -> Option<Self> {
        let is_worth_it = support_set.len() >= LEAST_ROWS * support_set.categories().len();
        is_worth_it.then(|| Self::of_any(support_set, weights))
    }

    fn of_any(support_set: &SupportSet, weights: Option<&[f32]>) -> Self {
        let features = support_set.likeness();
        let categories = support_set.categories().len();
        let mut means = Array2::zeros((categories, features.ncols()));
        let (mut variances, mut masses) = (Vec::with_capacity(categories), Vec::with_capacity(categories));
        for (c, mut mean) in means.rows_mut().into_iter().enumerate() {
            interrupt::check();
            let rows = support_set.rows(c);
            let features = features.slice(s![rows.clone(), ..]);
            let weight = |i: usize| weights.map_or(1.0, |weights| f64::from(weights[rows.start + i]));
            let mass: f64 = (0..rows.len()).map(weight).sum();
            masses.push(mass as f32 * (1.0 + SLACK));
            if mass <= 0.0 {
                variances.push(MIN_VARIANCE);
                continue;
            }
            let mut sum = Array1::<f64>::zeros(features.ncols());
            for (i, row) in features.rows().into_iter().enumerate() {
                sum.zip_mut_with(&row, |sum, &x| *sum += weight(i) * f64::from(x));
            }
            mean.assign(&sum.mapv(|sum| (sum / mass) as f32));
            let mut centred = &features - &mean;
            for (i, mut row) in centred.rows_mut().into_iter().enumerate() {
                row *= (weight(i) / mass).sqrt() as f32;
            }
            variances.push(largest_variance(centred));
        }
        CacheBounds { means: aligned(means.view()), variances, masses }
    }

    /// The same, with a matrix that can be multiplied faster.
    pub fn aligned(mut self) -> Self {
        self.means = aligned(self.means.view());
        self
    }

    /// The mean affinities `m` of queries by their likeness (n × e), n × C.
    pub fn means(&self, queries: ArrayView2<f32>) -> Array2<f32> {
        row_product(queries, self.means.view())
    }

    /// A bound of the sum of `w_i exp(-beta (1 - A_i))` over the rows of a category, from their mean affinity.
    pub fn most(&self, category: usize, mean: f32, beta: f32) -> f32 {
        let (b, v) = (1.0 - mean, self.variances[category]);
        let bound = match b > MIN_DISTANCE {
            true => ((b * b * (-beta * (b + v / b)).exp() + v) / (b * b + v)).min(1.0),
            false => 1.0,
        };
        self.masses[category] * bound * (1.0 + SLACK + beta * ROUNDING)
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        (self.means.len() + self.variances.len() + self.masses.len()) * size_of::<f32>()
    }
}

/// A bound of the largest variance in any direction, which is the largest eigenvalue `l` of the covariance `S = X^T X`: the eighth
/// root of `tr S^8`. With `k` eigenvalues it is at most `k^(1/8) l`. The rows of `X` are centred, and multiplied by the roots of
/// their weights, whose sum is 1.
fn largest_variance(centred: Array2<f32>) -> f32 {
    let (rows, dimensions) = centred.dim();
    // The rows' products with each other have the same eigenvalues as the dimensions' products.
    let mut power = match rows < dimensions {
        true => product(centred.view(), centred.view()),
        false => product(centred.t(), centred.t()),
    };
    let mut bound = 1.0;
    // Each time divided by its norm, so that no number becomes too small.
    for root in [1.0, 0.5, 0.25] {
        let norm = power.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        if norm < f64::from(f32::MIN_POSITIVE) {
            return MIN_VARIANCE;
        }
        bound *= norm.powf(root);
        power /= norm as f32;
        if root > 0.25 {
            power = product(power.view(), power.view());
        }
    }
    bound as f32 * (1.0 + SLACK) + MIN_VARIANCE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sus::SupportSetBuilder;

    #[test]
    fn a_bound_of_the_variance_is_near_the_largest_eigenvalue() {
        // Of diagonal covariances, the eigenvalues are the squares divided by the number of rows.
        for (diagonal, rows) in
            [(vec![3.0, 1.0, 0.5, 2.0], 4), (vec![1.0; 20], 20), (vec![0.0; 3], 3), (vec![1e-3; 7], 7)]
        {
            let centred = Array2::from_diag(&Array1::from(diagonal.clone())) / (rows as f32).sqrt();
            let largest = diagonal.iter().map(|x| x * x / rows as f32).fold(0.0, f32::max);
            let bound = largest_variance(centred);
            assert!(largest <= bound, "{largest} {bound}");
            assert!(
                bound <= 1.002 * largest * (rows as f32).powf(0.125) + 2.0 * MIN_VARIANCE,
                "{largest} {bound}"
            );
        }
        // More rows than dimensions.
        let element = |(i, j)| if i % 3 == j { (j + 1) as f32 / 50.0_f32.sqrt() } else { 0.0 };
        let centred = Array2::from_shape_fn((50, 3), element);
        let largest = 9.0 * 16.0 / 50.0;
        let bound = largest_variance(centred);
        assert!(largest <= bound && bound < 1.1 * largest, "{largest} {bound}");
    }

    #[test]
    fn no_cache_is_larger_than_its_bound() {
        let vector = |i: usize, spread: f32| -> Vec<f32> {
            (0..9).map(|j| 1.0 + spread * ((i * 31 + j * 7 + i * j * 3) as f32).sin()).collect()
        };
        for spread in [0.0, 0.01, 0.3, 1.0, 4.0] {
            let mut builder = SupportSetBuilder::new(9);
            for c in 0..5 {
                builder.push_prompt(&format!("{c}"), &vector(c, 1.0)).unwrap();
                for i in 0..[0, 1, 2, 8, 60][c] {
                    builder.push_image(&format!("{c}"), 0, &vector(c * 100 + i, spread)).unwrap();
                }
            }
            let support_set = builder.finish().unwrap();
            let features = support_set.features();
            let affinities = row_product(features, features);
            // Some weigh nothing.
            let weights: Vec<f32> = (0..features.nrows()).map(|i| (i % 5) as f32 * 0.3).collect();
            for weights in [None, Some(&weights[..])] {
                let bounds = CacheBounds::of_any(&support_set, weights);
                let weight = |row: usize| weights.map_or(1.0, |weights| weights[row]);
                let means = bounds.means(features);
                for beta in [0.1, 1.0, 5.5, 30.0, 1000.0] {
                    for (means, affinities) in means.rows().into_iter().zip(affinities.rows()) {
                        for c in 1..5 {
                            let rows = support_set.rows(c);
                            let of_row = |row: usize| weight(row) * (-beta * (1.0 - affinities[row])).exp();
                            let sum = rows.clone().map(of_row).sum::<f32>();
                            let most = bounds.most(c, means[c], beta);
                            assert!(sum <= most, "{spread} {beta} {c}: {sum} {most}");
                            // And it is not far away where the rows are nearly the same.
                            if spread <= 0.01 && beta <= 5.5 {
                                assert!(most <= 1.1 * sum, "{spread} {beta} {c}: {sum} {most}");
                            }
                        }
                    }
                }
            }
        }
    }
}
