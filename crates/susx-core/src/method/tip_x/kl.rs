//! The KL term in closed form.
//!
//! Summed over the support rows of a category, the divergence depends only on the category's mean feature and mean
//! log-normaliser: with `lse_i = logsumexp(s(F_i)/T)`,
//!
//! ```text
//! mean over i in c of KL(p || q_i) = sum_j p_j log p_j - (W^T p) . phi_c / T + lambda_c
//! phi_c = mean of F_i,  lambda_c = mean of lse_i
//! ```
//!
//! so a query costs O(d C) regardless of the size of the support set, and no N × M matrix is built. If there are fewer
//! categories than dimensions, `p . (W phi_c)` is the cheaper product, of length C instead of d.
//!
//! The right-hand side is a small difference of large numbers. Both sides are therefore taken relative to the mean
//! over all categories (`phi`, `lambda`): the part that all categories share is summed in float64 as
//! `sum_j p_j (log p_j - log q_j)`, where every difference is small, and float32 has to represent only the small
//! centred vectors.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut1, Axis, s};
use serde::{Deserialize, Serialize};

use crate::interrupt;
use crate::linalg::{block_rows, exp, product, row_sums};
use crate::sus::SupportSet;

/// Most rows whose cosines are in memory at the same time.
const BLOCK: usize = 1024;

/// What the KL term needs to know about a support set. Divergences are not scaled yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct KlTerm {
    temperature: f32,
    /// `phi`, d.
    centre: Array1<f32>,
    lambda_centre: f64,
    /// `log q` of the centre, C. Not exactly normalised, because its `lambda` is a mean; that cancels.
    log_q: Vec<f64>,
    space: Space,
    /// `(phi_c - phi) / T` in that space, k × C; zeros for a category without support.
    #[serde(with = "crate::as_bytes::matrix")]
    phi: Array2<f32>,
    /// `lambda_c - lambda`, C.
    lambda: Vec<f32>,
}

/// How `p . W x / T` is computed: as a product of two vectors of k elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Space {
    /// Of `p` and `W x / T`, C.
    Names,
    /// Of `W^T p` and `x / T`, d.
    Features,
}

/// Queries as the KL term needs them: `KL(p || q_i) = shared - projected . (F_i - phi) / T + lse_i - lambda`.
#[derive(Debug)]
pub(super) struct KlQueries {
    /// `sum_j p_j (log p_j - log q_j)` against the centre, n.
    pub shared: Vec<f64>,
    /// `p` or `W^T p`, n × k.
    pub projected: Array2<f32>,
}

impl KlTerm {
    /// O(M C d).
    pub fn fit(support_set: &SupportSet, temperature: f32) -> Self {
        let (weights, features) = (support_set.zeroshot_weights(), support_set.features());
        let (categories, dimensions) = weights.dim();
        let lse = log_normalisers(weights, features, temperature);

        let mut phi = Array2::<f64>::zeros((categories, dimensions));
        let mut lambda = vec![0.0; categories];
        let supported: Vec<usize> = (0..categories).filter(|&c| !support_set.rows(c).is_empty()).collect();
        for &c in &supported {
            interrupt::check();
            let rows = support_set.rows(c);
            let count = rows.len() as f64;
            let mut phi = phi.row_mut(c);
            for row in features.slice(s![rows.clone(), ..]).rows() {
                phi.zip_mut_with(&row, |sum, &x| *sum += f64::from(x));
            }
            phi /= count;
            lambda[c] = lse[rows].iter().sum::<f64>() / count;
        }
        let present = supported.len().max(1) as f64;
        let centre = phi.sum_axis(Axis(0)) / present;
        let lambda_centre = lambda.iter().sum::<f64>() / present;
        let t = f64::from(temperature);
        let log_q = weights
            .rows()
            .into_iter()
            .inspect(|_| interrupt::check())
            .map(|w| w.iter().zip(&centre).map(|(&w, &x)| f64::from(w) * x).sum::<f64>() / t - lambda_centre)
            .collect();

        let mut term = KlTerm {
            temperature,
            centre: centre.mapv(|x| x as f32),
            lambda_centre,
            log_q,
            space: if categories <= dimensions { Space::Names } else { Space::Features },
            phi: Array2::zeros((categories, dimensions)),
            lambda: vec![0.0; categories],
        };
        for c in supported {
            interrupt::check();
            term.phi.row_mut(c).assign(&((&phi.row(c) - &centre) / t).mapv(|x| x as f32));
            term.lambda[c] = (lambda[c] - lambda_centre) as f32;
        }
        if term.space == Space::Names {
            term.phi = product(term.phi.view(), weights);
        }
        term.phi = term.phi.t().as_standard_layout().into_owned();
        term
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        (self.centre.len() + self.phi.len() + self.lambda.len()) * size_of::<f32>()
            + self.log_q.len() * size_of::<f64>()
    }

    /// Queries from their cosines to the zeroshot weights (n × C).
    pub fn queries(&self, weights: ArrayView2<f32>, cosines: ArrayView2<f32>) -> KlQueries {
        let mut p = cosines.as_standard_layout().into_owned();
        let shared = p.rows_mut().into_iter().map(|row| self.shared(row)).collect();
        let projected = match self.space {
            Space::Names => p,
            Space::Features => row_sums(p.view(), weights),
        };
        KlQueries { shared, projected }
    }

    /// `mean over i in c of KL(p || q_i)` of every query and category, transformed by `finish`, n × C.
    ///
    /// `finish` takes the index of the query, that of the category and the divergence, which is meaningless for a
    /// category without support. Divergences may differ only in their last digits, so they are scaled in float64.
    pub fn divergences(&self, queries: &KlQueries, finish: impl Fn(usize, usize, f64) -> f32) -> Array2<f32> {
        let mut out = row_sums(queries.projected.view(), self.phi.view());
        for (i, (mut row, shared)) in out.rows_mut().into_iter().zip(&queries.shared).enumerate() {
            interrupt::check();
            for (c, (value, lambda)) in row.iter_mut().zip(&self.lambda).enumerate() {
                *value = finish(i, c, shared + f64::from(lambda - *value));
            }
        }
        out
    }

    /// `(F_i - phi) / T` in the term's space (m × k) and `lse_i - lambda` (m) of support rows (m × d).
    pub fn centred(&self, weights: ArrayView2<f32>, features: ArrayView2<f32>) -> (Array2<f32>, Vec<f32>) {
        let lse = log_normalisers(weights, features, self.temperature);
        let mut centred = features.to_owned();
        for mut row in centred.rows_mut() {
            interrupt::check();
            row.zip_mut_with(&self.centre, |x, &mean| *x = (*x - mean) / self.temperature);
        }
        if self.space == Space::Names {
            centred = product(centred.view(), weights);
        }
        (centred, lse.into_iter().map(|lse| (lse - self.lambda_centre) as f32).collect())
    }

    /// Replaces one query's cosines by `p`; returns `sum_j p_j (log p_j - log q_j)`.
    fn shared(&self, mut row: ArrayViewMut1<f32>) -> f64 {
        let lse = log_sum_exp(row.view(), self.temperature);
        let log_p: Vec<f64> = row.iter().map(|cosine| f64::from(cosine / self.temperature) - lse).collect();
        let mut p: Vec<f32> = log_p.iter().map(|&log_p| log_p as f32).collect();
        exp(&mut p);
        let mut sum = 0.0;
        for (((out, p), log_p), log_q) in row.iter_mut().zip(p).zip(log_p).zip(&self.log_q) {
            sum += f64::from(p) * (log_p - log_q);
            *out = p;
        }
        sum
    }
}

/// `logsumexp(s(F_i)/T)` of every row, M.
fn log_normalisers(weights: ArrayView2<f32>, features: ArrayView2<f32>, temperature: f32) -> Vec<f64> {
    let mut lse = Vec::with_capacity(features.nrows());
    for block in features.axis_chunks_iter(Axis(0), block_rows(weights.nrows(), BLOCK)) {
        let cosines = product(block, weights);
        lse.extend(cosines.rows().into_iter().map(|row| log_sum_exp(row, temperature)));
    }
    lse
}

/// The exponentials are float32: cosines are at most 1, so with the largest subtracted the sum is of the order of C, and
/// a unit in the last place of each term is far smaller than the differences between divergences.
fn log_sum_exp(cosines: ArrayView1<f32>, temperature: f32) -> f64 {
    let largest = cosines.iter().copied().fold(f32::NEG_INFINITY, f32::max) / temperature;
    let mut scaled: Vec<f32> = cosines.iter().map(|s| s / temperature - largest).collect();
    exp(&mut scaled);
    f64::from(largest) + scaled.iter().map(|&e| f64::from(e)).sum::<f64>().ln()
}
