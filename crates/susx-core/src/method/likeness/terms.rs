//! The terms of the support set.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::interrupt;
use crate::linalg::{aligned, product, row_product};
use crate::method::gda::{Confidence, Discriminant, MIN_MASS, Sums};
use crate::method::tip_adapter::{sharpen, sums};
use crate::sus::SupportSet;

/// Sharpness of the cache, per standard deviation of the affinities of support rows.
const SHARPNESS: f64 = 0.2;
/// Smallest standard deviation of the affinities.
const MIN_DEVIATION: f64 = 0.01;

/// The cache and the discriminant before they are centred and multiplied by their sizes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SupportTerms {
    /// Sharpness of the affinities.
    pub beta: f32,
    /// `w_i`, M.
    #[serde(with = "crate::as_bytes::numbers")]
    pub weights: Vec<f32>,
    /// Of a category, the factor of the weighted sum of `exp(-beta (1 - a_i))` in its cache, C.
    pub factors: Vec<f32>,
    pub sums: Sums,
    pub discriminant: Discriminant,
    #[serde(with = "crate::as_bytes::matrix")]
    maps: Array2<f32>,
    bias: Array1<f32>,
    /// The categories with support rows.
    pub supported: Vec<usize>,
    /// `exp(beta (1 - mean))`.
    scale: f64,
}

impl SupportTerms {
    /// Of a support set that is not empty. O(M e min(M, e) + min(M, 4096)^2 e).
    pub fn fit(support_set: &SupportSet, logit_scale: f32, ridge: f32) -> Self {
        let (mean, deviation) = affinities_of_pairs(support_set);
        let beta = SHARPNESS / deviation;
        let weights = Confidence::of(support_set, logit_scale).probabilities;
        let sums = Sums::of(support_set, weights.clone());
        let scale = (beta * (1.0 - mean)).exp();
        let discriminant = Discriminant::of(&sums, ridge.into());
        let maps = aligned(discriminant.weights.mapv(|x| x as f32).view());
        let categories = 0..support_set.categories().len();
        SupportTerms {
            beta: beta as f32,
            weights: weights.into_iter().map(|w| w as f32).collect(),
            factors: sums.mass.iter().map(|mass| (scale / mass.max(MIN_MASS)) as f32).collect(),
            bias: discriminant.bias.mapv(|x| x as f32),
            supported: categories.filter(|&c| !support_set.rows(c).is_empty()).collect(),
            maps,
            sums,
            discriminant,
            scale,
        }
    }

    /// The same, with a matrix that can be multiplied faster.
    pub fn aligned(mut self) -> Self {
        self.maps = aligned(self.maps.view());
        self
    }

    /// The cache of queries by their likeness (n × e), n × C, with the largest affinity of each to a support row (n).
    pub fn cache(&self, support_set: &SupportSet, likeness: ArrayView2<f32>) -> (Array2<f32>, Vec<f32>) {
        let mut nearest = vec![0.0; likeness.nrows()];
        let mut cache = sums(support_set, self.beta, Some(&self.weights), likeness, Some(&mut nearest));
        for mut row in cache.rows_mut() {
            row.iter_mut().zip(&self.factors).for_each(|(value, factor)| *value *= factor);
        }
        (cache, nearest)
    }

    /// The discriminant of queries by their likeness, n × C.
    pub fn discriminant(&self, likeness: ArrayView2<f32>) -> Array2<f32> {
        row_product(likeness, self.maps.view()) + &self.bias
    }

    /// What a support row adds to the cache of its category, for a query with this affinity.
    pub fn contribution(&self, row: usize, category: usize, affinity: f32) -> f32 {
        let mut sharpened = [affinity];
        sharpen(&mut sharpened, self.beta);
        self.weights[row] * self.factors[category] * sharpened[0]
    }

    /// The cache and the discriminant of some support rows, each by the fit without it, n × C each, and the affinity to the
    /// nearest other row (n).
    pub fn without(&self, support_set: &SupportSet, rows: &[usize]) -> (Array2<f32>, Array2<f32>, Vec<f32>) {
        let own = support_set.likeness().select(ndarray::Axis(0), rows);
        let mut affinities = product(own.view(), support_set.likeness());
        let mut cache = Array2::zeros((rows.len(), support_set.categories().len()));
        let mut nearest = Vec::with_capacity(rows.len());
        for ((&row, mut affinities), mut cache) in
            rows.iter().zip(affinities.rows_mut()).zip(cache.rows_mut())
        {
            interrupt::check();
            affinities[row] = f32::NEG_INFINITY;
            nearest.push(crate::linalg::largest(affinities.view()));
            self.cache_without(support_set, row, affinities.to_vec(), &mut cache);
        }
        let discriminant = self.discriminant.without(support_set, &self.sums, rows).mapv(|x| x as f32);
        (cache, discriminant, nearest)
    }

    fn cache_without(
        &self,
        support_set: &SupportSet,
        row: usize,
        mut affinities: Vec<f32>,
        cache: &mut ndarray::ArrayViewMut1<f32>,
    ) {
        sharpen(&mut affinities, self.beta);
        let own = support_set.category_of(row);
        for (c, cache) in cache.iter_mut().enumerate() {
            let rows = support_set.rows(c);
            let weighted = |i: usize| f64::from(self.weights[i]) * f64::from(affinities[i]);
            let sum: f64 = rows.map(weighted).sum();
            let less = if c == own { self.sums.weights[row] } else { 0.0 };
            *cache = (sum * self.scale / (self.sums.mass[c] - less).max(MIN_MASS)) as f32;
        }
    }

    /// The first of the best categories with support rows.
    pub fn best(&self, row: ArrayView1<f32>) -> usize {
        let first = self.supported.first().copied().unwrap_or(0);
        self.supported.iter().fold(first, |best, &c| if row[c] > row[best] { c } else { best })
    }

    /// The mean over the categories with support rows.
    pub fn mean(&self, row: ArrayView1<f32>) -> f32 {
        self.supported.iter().map(|&c| row[c]).sum::<f32>() / self.supported.len() as f32
    }

    /// The standard deviation over the categories with support rows.
    pub fn deviation(&self, row: ArrayView1<f32>) -> f64 {
        let values = || self.supported.iter().map(|&c| f64::from(row[c]));
        let count = self.supported.len() as f64;
        let mean = values().sum::<f64>() / count;
        (values().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt()
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        let floats = self.weights.len() + self.factors.len() + self.maps.len() + self.bias.len();
        let sums = self.sums.weights.len() + self.sums.mass.len() + self.sums.means.len();
        floats * size_of::<f32>()
            + sums * size_of::<f64>()
            + self.discriminant.size()
            + self.supported.len() * size_of::<usize>()
    }
}

/// Mean and standard deviation of the affinities of pairs of support rows, of a sample where there are many.
fn affinities_of_pairs(support_set: &SupportSet) -> (f64, f64) {
    const ROWS: usize = 256;
    let sample = support_set.sample();
    if sample.len() < 2 {
        return (0.0, 1.0);
    }
    let rows = support_set.likeness().select(ndarray::Axis(0), &sample);
    let (mut sum, mut sum_of_squares) = (0.0, 0.0);
    for (block, own) in rows.axis_chunks_iter(ndarray::Axis(0), ROWS).enumerate() {
        let affinities = product(own, rows.view());
        for (i, affinities) in affinities.rows().into_iter().enumerate() {
            interrupt::check();
            let row = block * ROWS + i;
            for (_, &a) in affinities.iter().enumerate().filter(|(other, _)| *other != row) {
                sum += f64::from(a);
                sum_of_squares += f64::from(a) * f64::from(a);
            }
        }
    }
    let pairs = (sample.len() * (sample.len() - 1)) as f64;
    let mean = sum / pairs;
    let variance = (sum_of_squares / pairs - mean * mean).max(0.0);
    (mean, variance.sqrt().max(MIN_DEVIATION))
}
