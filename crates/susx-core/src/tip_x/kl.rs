//! The KL term in its collapsed form.
//!
//! Summed over the support rows of a category, the divergence needs only that category's mean feature
//! and mean log-normaliser: with `lse_i = logsumexp(s(F_i)/T)`,
//!
//! ```text
//! mean over i in c of KL(p || q_i) = sum_j p_j log p_j - (W^T p) . phi_c / T + lambda_c
//! phi_c = mean of F_i,  lambda_c = mean of lse_i
//! ```
//!
//! so a query costs O(d C) whatever the size of the support set, and no N x M matrix is ever built.
//!
//! The right-hand side is a small difference of large numbers. Both sides are therefore taken relative
//! to the mean over all categories (`phi`, `lambda`): the part that all categories share is summed in
//! float64 as `sum_j p_j (log p_j - log q_j)`, where every difference is small, and what is left for
//! float32 are the small centred vectors.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};

/// Pairs of support rows beyond which the scale is taken from a sample.
const SCALE_ROWS: usize = 4096;
/// Rows of the pair matrices that are in memory at a time.
const BLOCK: usize = 256;

/// `y = a * KL + b`: brings divergences into the range of the affinities (paper, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AffinityScale {
    pub a: f64,
    pub b: f64,
}

impl AffinityScale {
    /// With fewer than two distinct support rows there is no range to scale to: the term is off.
    const OFF: AffinityScale = AffinityScale { a: 0.0, b: 0.0 };
}

/// A reference distribution `log q = W phi / T - lambda` and the vectors centred on it.
#[derive(Clone, Debug)]
struct Centre {
    /// `phi`, d.
    phi: Array1<f64>,
    lambda: f64,
    /// `log q`, C. Not exactly normalised, as `lambda` is a mean: it cancels.
    log_q: Vec<f64>,
}

/// Everything the KL term needs of a support set.
#[derive(Clone, Debug)]
pub(super) struct KlTerm {
    temperature: f64,
    scale: AffinityScale,
    centre: Centre,
    /// `(phi_c - phi) / T`, C x d; zeros for a category without support.
    phi: Array2<f32>,
    /// `lambda_c - lambda`, C.
    lambda: Vec<f32>,
}

impl KlTerm {
    /// `weights` C x d and `features` M x d have unit rows, rows `offsets[c]..offsets[c + 1]` of
    /// `features` being category `c`'s.
    pub fn fit(
        weights: ArrayView2<f32>,
        features: ArrayView2<f32>,
        offsets: &[usize],
        temperature: f32,
    ) -> Self {
        let temperature = f64::from(temperature);
        let (categories, dimensions) = weights.dim();
        let cosines = features.dot(&weights.t());
        let lse: Vec<f64> = cosines.rows().into_iter().map(|row| log_sum_exp(row, temperature)).collect();

        let mut phi = Array2::<f64>::zeros((categories, dimensions));
        let mut lambda = vec![0.0; categories];
        let mut present = 0usize;
        for c in 0..categories {
            let rows = offsets[c]..offsets[c + 1];
            if rows.is_empty() {
                continue;
            }
            present += 1;
            let count = rows.len() as f64;
            for row in features.slice(s![rows.clone(), ..]).rows() {
                phi.row_mut(c).zip_mut_with(&row, |sum, &x| *sum += f64::from(x) / count);
            }
            lambda[c] = lse[rows].iter().sum::<f64>() / count;
        }
        let present = present.max(1) as f64;
        let mean_phi = phi.sum_axis(Axis(0)) / present;
        let mean_lambda = lambda.iter().sum::<f64>() / present;
        let centre = Centre::new(weights, mean_phi, mean_lambda, temperature);

        let mut centred = Array2::zeros((categories, dimensions));
        let mut centred_lambda = vec![0.0; categories];
        for c in (0..categories).filter(|&c| offsets[c] < offsets[c + 1]) {
            for (j, out) in centred.row_mut(c).iter_mut().enumerate() {
                *out = ((phi[(c, j)] - centre.phi[j]) / temperature) as f32;
            }
            centred_lambda[c] = (lambda[c] - centre.lambda) as f32;
        }
        let scale = centre.affinity_scale(weights, features, cosines.view(), &lse, temperature);
        KlTerm { temperature, scale, centre, phi: centred, lambda: centred_lambda }
    }

    /// The frozen constants.
    pub fn scale(&self) -> AffinityScale {
        self.scale
    }

    /// Bytes on the heap.
    pub fn size(&self) -> usize {
        (self.phi.len() + self.lambda.len()) * size_of::<f32>()
            + (self.centre.phi.len() + self.centre.log_q.len()) * size_of::<f64>()
    }

    /// `a * mean over i in c of KL(p || q_i) + b` for every query and category, N x C, from the
    /// queries' cosines to the zeroshot weights (N x C). Meaningless for a category without support.
    pub fn scaled_divergence(&self, weights: ArrayView2<f32>, cosines: ArrayView2<f32>) -> Array2<f32> {
        let mut p = cosines.to_owned();
        let shared: Vec<f64> = p
            .rows_mut()
            .into_iter()
            .map(|mut row| self.centre.divergence(&mut row, self.temperature))
            .collect();
        let mean_weight = p.dot(&weights);
        let mut out = mean_weight.dot(&self.phi.t());
        for (mut row, shared) in out.rows_mut().into_iter().zip(shared) {
            for (value, &lambda) in row.iter_mut().zip(&self.lambda) {
                let kl = shared - f64::from(*value) + f64::from(lambda);
                *value = (self.scale.a * kl + self.scale.b) as f32;
            }
        }
        out
    }
}

impl Centre {
    fn new(weights: ArrayView2<f32>, phi: Array1<f64>, lambda: f64, temperature: f64) -> Self {
        let log_q = weights
            .rows()
            .into_iter()
            .map(|w| w.iter().zip(&phi).map(|(&w, &x)| f64::from(w) * x).sum::<f64>() / temperature - lambda)
            .collect();
        Centre { phi, lambda, log_q }
    }

    /// Turns one query's cosines into `p` and returns `sum_j p_j (log p_j - log q_j)`.
    fn divergence(&self, row: &mut ndarray::ArrayViewMut1<f32>, temperature: f64) -> f64 {
        let lse = log_sum_exp(row.view(), temperature);
        let mut sum = 0.0;
        for (cosine, log_q) in row.iter_mut().zip(&self.log_q) {
            let log_p = f64::from(*cosine) / temperature - lse;
            let p = log_p.exp();
            sum += p * (log_p - log_q);
            *cosine = p as f32;
        }
        sum
    }

    /// `a` and `b` from the pairs of support rows, a row with itself left out. Above [`SCALE_ROWS`]
    /// rows, from evenly spaced ones: the rows are sorted by category, so all categories are met and
    /// the same table always gives the same constants.
    fn affinity_scale(
        &self,
        weights: ArrayView2<f32>,
        features: ArrayView2<f32>,
        cosines: ArrayView2<f32>,
        lse: &[f64],
        temperature: f64,
    ) -> AffinityScale {
        let total = features.nrows();
        let rows = total.min(SCALE_ROWS);
        let sample: Vec<usize> = (0..rows).map(|i| i * total / rows).collect();
        let features = features.select(Axis(0), &sample);
        let mut p = cosines.select(Axis(0), &sample);
        let shared: Vec<f64> =
            p.rows_mut().into_iter().map(|mut row| self.divergence(&mut row, temperature)).collect();
        let lambda: Vec<f64> = sample.iter().map(|&i| lse[i] - self.lambda).collect();
        let mean_weight = p.dot(&weights);
        let mut centred = features.clone();
        for mut row in centred.rows_mut() {
            row.zip_mut_with(&self.phi, |x, &mean| *x = ((f64::from(*x) - mean) / temperature) as f32);
        }

        let (mut affinity, mut kl) = (Range::EMPTY, Range::EMPTY);
        for start in (0..rows).step_by(BLOCK) {
            let block = start..(start + BLOCK).min(rows);
            let affinities = features.slice(s![block.clone(), ..]).dot(&features.t());
            let products = mean_weight.slice(s![block.clone(), ..]).dot(&centred.t());
            for (i, (affinities, products)) in block.zip(affinities.rows().into_iter().zip(products.rows())) {
                for (j, (&a, &product)) in affinities.iter().zip(products).enumerate() {
                    if i != j {
                        affinity.add(f64::from(a));
                        kl.add(shared[i] - f64::from(product) + lambda[j]);
                    }
                }
            }
        }
        // Of equal rows both ranges are rounding noise: there is nothing to scale.
        if kl.width() <= 1e-9 || affinity.width() <= 0.0 {
            return AffinityScale::OFF;
        }
        let a = affinity.width() / kl.width();
        AffinityScale { a, b: affinity.min - a * kl.min }
    }
}

struct Range {
    min: f64,
    max: f64,
}

impl Range {
    const EMPTY: Range = Range { min: f64::INFINITY, max: f64::NEG_INFINITY };

    fn add(&mut self, value: f64) {
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// 0 (not minus infinity) while nothing was added.
    fn width(&self) -> f64 {
        (self.max - self.min).max(0.0)
    }
}

fn log_sum_exp(cosines: ArrayView1<f32>, temperature: f64) -> f64 {
    let largest = cosines.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let largest = f64::from(largest) / temperature;
    let sum: f64 = cosines.iter().map(|&s| (f64::from(s) / temperature - largest).exp()).sum();
    largest + sum.ln()
}
