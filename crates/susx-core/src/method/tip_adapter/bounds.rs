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

use ndarray::{Array2, ArrayView2, Axis, s};
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
}

impl CacheBounds {
    /// The bounds of a support set that is worth them. O(M e k + C k^3) for categories of `n_c` rows, with `k = min(n_c, e)`.
    pub fn of(support_set: &SupportSet) -> Option<Self> {
        let is_worth_it = support_set.len() >= LEAST_ROWS * support_set.categories().len();
        is_worth_it.then(|| Self::of_any(support_set))
    }

    fn of_any(support_set: &SupportSet) -> Self {
        let rows = support_set.likeness();
        let mut means = Array2::zeros((support_set.categories().len(), rows.ncols()));
        let mut variances = Vec::with_capacity(means.nrows());
        for (c, mut mean) in means.rows_mut().into_iter().enumerate() {
            interrupt::check();
            let rows = rows.slice(s![support_set.rows(c), ..]);
            let exact = rows.mapv(f64::from).mean_axis(Axis(0));
            if let Some(exact) = exact {
                mean.assign(&exact.mapv(|x| x as f32));
            }
            variances.push(largest_variance(&rows - &mean));
        }
        CacheBounds { means: aligned(means.view()), variances }
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

    /// A bound of the mean of `exp(-beta (1 - A_i))` over the rows of a category, from their mean affinity.
    pub fn most(&self, category: usize, mean: f32, beta: f32) -> f32 {
        let (b, v) = (1.0 - mean, self.variances[category]);
        let bound = match b > MIN_DISTANCE {
            true => ((b * b * (-beta * (b + v / b)).exp() + v) / (b * b + v)).min(1.0),
            false => 1.0,
        };
        bound * (1.0 + SLACK + beta * ROUNDING)
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        (self.means.len() + self.variances.len()) * size_of::<f32>()
    }
}

/// A bound of the largest variance of centred rows in any direction, which is the largest eigenvalue `l` of their covariance
/// `S`: the eighth root of `tr S^8`. With `k` eigenvalues it is at most `k^(1/8) l`.
fn largest_variance(centred: Array2<f32>) -> f32 {
    let (rows, dimensions) = centred.dim();
    // The rows' products with each other have the same eigenvalues as the dimensions' products.
    let mut power = match rows < dimensions {
        true => product(centred.view(), centred.view()),
        false => product(centred.t(), centred.t()),
    };
    let mut bound = 1.0 / rows.max(1) as f64;
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
            let centred = Array2::from_diag(&ndarray::Array1::from(diagonal.clone()));
            let largest = diagonal.iter().map(|x| x * x / rows as f32).fold(0.0, f32::max);
            let bound = largest_variance(centred);
            assert!(largest <= bound, "{largest} {bound}");
            assert!(
                bound <= 1.002 * largest * (rows as f32).powf(0.125) + 2.0 * MIN_VARIANCE,
                "{largest} {bound}"
            );
        }
        // More rows than dimensions.
        let centred = Array2::from_shape_fn((50, 3), |(i, j)| if i % 3 == j { (j + 1) as f32 } else { 0.0 });
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
            let bounds = CacheBounds::of_any(&support_set);
            let queries = support_set.features();
            let (means, affinities) = (bounds.means(queries), row_product(queries, queries));
            for beta in [0.1, 1.0, 5.5, 30.0, 1000.0] {
                for (means, affinities) in means.rows().into_iter().zip(affinities.rows()) {
                    for c in 1..5 {
                        let rows = support_set.rows(c);
                        let count = rows.len() as f32;
                        let mean =
                            rows.map(|row| (-beta * (1.0 - affinities[row])).exp()).sum::<f32>() / count;
                        let most = bounds.most(c, means[c], beta);
                        assert!(mean <= most, "{spread} {beta} {c}: {mean} {most}");
                        // And it is not far away where the rows are nearly the same.
                        if spread <= 0.01 && beta <= 5.5 {
                            assert!(most < 1.1 * mean, "{spread} {beta} {c}: {mean} {most}");
                        }
                    }
                }
            }
        }
    }
}
