//! What logits are made of before alpha, beta and gamma are known: what tuning works on.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, s};

use super::TipX;
use super::scale::{self, AffinityScale};
use crate::linalg::product;

/// The logit of category `c` is `zero_shot + alpha * balance * sum over i in c of exp(-beta (1 - A_i))
/// - gamma * kl`.
#[derive(Clone, Debug)]
pub struct Parts {
    /// `logit_scale * s_c`, n x C.
    pub zero_shot: Array2<f32>,
    /// `A`, n x M; minus infinity for a support row that is left out.
    pub affinities: Array2<f32>,
    /// `n * (a * mean over i in c of KL + b)`, n x C; meaningless for a category without support.
    pub kl: Array2<f32>,
    /// `n/n_c`, n x C; 0 for a category without support.
    pub balance: Array2<f32>,
    /// Where each category's columns of `affinities` begin, and at last M.
    pub offsets: Vec<usize>,
}

impl TipX {
    /// The parts of the logits of unit queries (n x d). The KL part is 0 for a fit with gamma 0.
    pub fn parts(&self, queries: ArrayView2<f32>) -> Parts {
        let weights = self.support_set.zeroshot_weights();
        let mut zero_shot = product(queries, weights);
        let mut kl = Array2::zeros(zero_shot.dim());
        if let Some(term) = &self.kl {
            let (spread, scale) = (term.spread(weights, zero_shot.view()), term.scale());
            kl = term.divergence(&spread, |_, _, divergence| self.mean_count * scale.apply(divergence));
        }
        zero_shot *= self.params.logit_scale;
        Parts {
            affinities: product(queries, self.support_set.features()),
            balance: Array2::from_shape_fn(zero_shot.dim(), |(_, c)| self.balance[c]),
            offsets: self.support_set.offsets().to_vec(),
            zero_shot,
            kl,
        }
    }
}

/// Every support row as a query of the classifier that would be fitted without it, in closed form: no
/// refit, O(M C d) for all rows and O(min(M, 4096)^2 d) for the scales.
#[derive(Debug)]
pub struct LeaveOneOut<'a> {
    tip_x: &'a TipX,
    /// M.
    scales: Vec<AffinityScale>,
    /// The category of every support row, M.
    categories: Vec<usize>,
}

impl<'a> LeaveOneOut<'a> {
    pub fn new(tip_x: &'a TipX) -> Self {
        let support_set = &tip_x.support_set;
        let scales = match &tip_x.kl {
            Some(kl) => scale::without_each(support_set, kl),
            None => vec![AffinityScale::OFF; support_set.len()],
        };
        let categories = (0..support_set.len()).map(|row| support_set.category_of(row)).collect();
        LeaveOneOut { tip_x, scales, categories }
    }

    /// The category of every support row, M.
    pub fn categories(&self) -> &[usize] {
        &self.categories
    }

    /// The parts of the logits of some support rows.
    pub fn parts(&self, rows: Range<usize>) -> Parts {
        let support_set = &self.tip_x.support_set;
        let weights = support_set.zeroshot_weights();
        let queries = support_set.features().slice_move(s![rows.clone(), ..]);
        let mut zero_shot = product(queries, weights);
        let mut affinities = product(queries, support_set.features());
        let mean_count = (support_set.len() - 1) as f32 / support_set.categories().len() as f32;
        // How many support rows a category has without one.
        let left = |row: usize, c: usize| support_set.rows(c).len() - usize::from(c == self.categories[row]);
        for (place, row) in rows.clone().enumerate() {
            affinities[(place, row)] = f32::NEG_INFINITY;
        }
        let balance =
            Array2::from_shape_fn(zero_shot.dim(), |(place, c)| match left(rows.start + place, c) {
                0 => 0.0,
                left => mean_count / left as f32,
            });
        let kl = match &self.tip_x.kl {
            Some(term) => {
                let spread = term.spread(weights, zero_shot.view());
                term.divergence(&spread, |place, c, divergence| {
                    let (row, all) = (rows.start + place, support_set.rows(c).len());
                    // The divergence of a row from itself is 0, so the sum over its category stays.
                    let divergence = divergence * all as f64 / left(row, c).max(1) as f64;
                    mean_count * self.scales[row].apply(divergence)
                })
            }
            None => Array2::zeros(zero_shot.dim()),
        };
        zero_shot *= self.tip_x.params.logit_scale;
        Parts { zero_shot, affinities, kl, balance, offsets: support_set.offsets().to_vec() }
    }
}
