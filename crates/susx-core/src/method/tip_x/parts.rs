//! Logits before alpha, beta and gamma are known: what a grid search works on.

use ndarray::Array2;

use super::TipX;
use super::fit::ScaledKl;
use crate::classifier::ValidParams;
use crate::interrupt;
use crate::linalg::{product, sum};
use crate::method::tip_adapter::sharpen;
use crate::queries::Queries;

/// Parts of logits: that of category `c` is
/// `zero_shot + alpha * balance * sum over i in c of exp(-beta (1 - A_i)) - gamma * kl`.
#[derive(Clone, Debug)]
pub struct LogitParts {
    /// `logit_scale * s_c`, n × C.
    pub zero_shot: Array2<f32>,
    /// `A`, n × M; minus infinity for a support row that is left out.
    pub affinities: Array2<f32>,
    /// `n * (a * mean over i in c of KL + b)`, n × C; meaningless for a category without support.
    pub kl: Array2<f32>,
    /// `n/n_c`, n × C; 0 for a category without support.
    pub balance: Array2<f32>,
    /// First column of each category in `affinities`, followed by M; C + 1.
    pub offsets: Vec<usize>,
}

impl LogitParts {
    /// The cache and the KL term, n × C; 0 for a category without support.
    pub(in crate::method) fn support_terms(&self, params: ValidParams) -> Array2<f32> {
        let mut terms = Array2::zeros(self.zero_shot.dim());
        for (row, mut terms) in terms.rows_mut().into_iter().enumerate() {
            interrupt::check();
            let mut sharpened = self.affinities.row(row).to_vec();
            sharpen(&mut sharpened, params.beta);
            for (sharpened, &affinity) in sharpened.iter_mut().zip(self.affinities.row(row)) {
                // With a beta of 0, a row that is left out would not be a number.
                *sharpened = if affinity == f32::NEG_INFINITY { 0.0 } else { *sharpened };
            }
            for (c, rows) in self.offsets.windows(2).enumerate() {
                let balance = self.balance[(row, c)];
                if balance > 0.0 {
                    let cache = sum(&sharpened[rows[0]..rows[1]]);
                    terms[c] = params.alpha * balance * cache - params.gamma * self.kl[(row, c)];
                }
            }
        }
        terms
    }

    pub(super) fn of(tip_x: &TipX, queries: Queries) -> Self {
        let (adapter, support_set) = (&tip_x.adapter, tip_x.support_set());
        let weights = support_set.zeroshot_weights();
        let mut zero_shot = product(queries.features(), weights);
        let mut kl = Array2::zeros(zero_shot.dim());
        if let Some(ScaledKl { term, scale }) = &tip_x.kl {
            let mean_count = adapter.balance.mean_count;
            let of_names = term.queries(weights, zero_shot.view());
            kl = term.divergences(&of_names, |_, _, divergence| mean_count * scale.apply(divergence));
        }
        zero_shot *= adapter.params.logit_scale;
        LogitParts {
            affinities: product(queries.likeness(), support_set.likeness()),
            balance: Array2::from_shape_fn(zero_shot.dim(), |(_, c)| adapter.balance.ratio[c]),
            offsets: support_set.offsets().to_vec(),
            zero_shot,
            kl,
        }
    }
}
