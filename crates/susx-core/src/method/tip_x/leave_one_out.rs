//! Support rows as queries of the classifier that would be fitted without them.

use ndarray::Array2;

use super::fit::ScaledKl;
use super::scale::{self, AffinityScale};
use super::{LogitParts, TipX};
use crate::linalg::product;

/// Every support row as a query of the classifier that would be fitted without it, in closed form: no refit, O(M C d)
/// for all rows and O(min(M, 4096)^2 d) for the scales.
#[derive(Debug)]
pub struct LeaveOneOut<'a> {
    tip_x: &'a TipX,
    /// The scale without each support row, M.
    scales: Vec<AffinityScale>,
    /// The category of each support row, M.
    categories: Vec<usize>,
}

impl<'a> LeaveOneOut<'a> {
    /// Computes the scale without each row.
    pub fn new(tip_x: &'a TipX) -> Self {
        let support_set = tip_x.support_set();
        let scales = match &tip_x.kl {
            Some(kl) => scale::without_each(support_set, &kl.term),
            None => vec![AffinityScale::OFF; support_set.len()],
        };
        Self::with(tip_x, scales)
    }

    /// With the scale of the whole support set for every row, which one row hardly changes.
    pub(in crate::method) fn of_common_scale(tip_x: &'a TipX) -> Self {
        let scale = tip_x.affinity_scale().unwrap_or(AffinityScale::OFF);
        Self::with(tip_x, vec![scale; tip_x.support_set().len()])
    }

    fn with(tip_x: &'a TipX, scales: Vec<AffinityScale>) -> Self {
        let support_set = tip_x.support_set();
        let categories = (0..support_set.len()).map(|row| support_set.category_of(row)).collect();
        LeaveOneOut { tip_x, scales, categories }
    }

    /// The category of each support row, M.
    pub fn categories(&self) -> &[usize] {
        &self.categories
    }

    /// The parts of the logits of some support rows, each by the classifier without that row.
    pub fn parts(&self, rows: &[usize]) -> LogitParts {
        let support_set = self.tip_x.support_set();
        let weights = support_set.zeroshot_weights();
        let queries = support_set.queries().select(rows);
        let mut zero_shot = product(queries.view().features(), weights);
        let mut affinities = product(queries.view().likeness(), support_set.likeness());
        let mean_count = (support_set.len() - 1) as f32 / support_set.categories().len() as f32;
        // Support rows of a category without one of them.
        let left = |row: usize, c: usize| support_set.rows(c).len() - usize::from(c == self.categories[row]);
        for (query, &row) in rows.iter().enumerate() {
            affinities[(query, row)] = f32::NEG_INFINITY;
        }
        let balance = Array2::from_shape_fn(zero_shot.dim(), |(query, c)| match left(rows[query], c) {
            0 => 0.0,
            left => mean_count / left as f32,
        });
        let kl = match &self.tip_x.kl {
            Some(ScaledKl { term, .. }) => {
                let queries = term.queries(weights, zero_shot.view());
                term.divergences(&queries, |query, c, divergence| {
                    let (row, all) = (rows[query], support_set.rows(c).len());
                    // A row diverges from itself by 0, so leaving it out does not change the sum of its category.
                    let divergence = divergence * all as f64 / left(row, c).max(1) as f64;
                    mean_count * self.scales[row].apply(divergence)
                })
            }
            None => Array2::zeros(zero_shot.dim()),
        };
        zero_shot *= self.tip_x.adapter.params.logit_scale;
        LogitParts { zero_shot, affinities, kl, balance, offsets: support_set.offsets().to_vec() }
    }
}
