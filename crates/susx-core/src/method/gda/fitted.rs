//! The discriminant as a method of classifiers.

use std::sync::{Arc, OnceLock};

use ndarray::s;

use super::Gda;
use super::influence::Influence;
use crate::classifier::{Contribution, Explanation, Ranked, ValidParams, top_k};
use crate::linalg::row_product;
use crate::method::{FittedMethod, MethodLogits, zero_shot};
use crate::queries::Queries;
use crate::sus::SupportSet;

/// The discriminant and the support set that explains it.
#[derive(Debug)]
pub(in crate::method) struct FittedGda {
    support_set: Arc<SupportSet>,
    params: ValidParams,
    gda: Gda,
    /// Fitted for the first explanation.
    influence: OnceLock<Option<Influence>>,
}

impl FittedGda {
    pub fn boxed(support_set: &Arc<SupportSet>, params: ValidParams) -> Option<Box<dyn FittedMethod>> {
        Some(Self::with(support_set, params, Gda::fit(support_set, params)?))
    }

    pub fn restored(
        support_set: &Arc<SupportSet>,
        params: ValidParams,
        saved: &[u8],
    ) -> Option<Box<dyn FittedMethod>> {
        let gda: Gda = postcard::from_bytes(saved).ok()?;
        Some(Self::with(support_set, params, gda.aligned()))
    }

    fn with(support_set: &Arc<SupportSet>, params: ValidParams, gda: Gda) -> Box<dyn FittedMethod> {
        let support_set = Arc::clone(support_set);
        Box::new(FittedGda { support_set, params, gda, influence: OnceLock::new() })
    }

    fn influence(&self) -> Option<&Influence> {
        self.influence.get_or_init(|| Influence::fit(&self.support_set, self.params)).as_ref()
    }
}

impl FittedMethod for FittedGda {
    fn logits(&self, queries: Queries) -> MethodLogits {
        MethodLogits::plain(self.gda.logits(queries))
    }

    fn explain(&self, query: Queries, k: usize, support: usize) -> Vec<Explanation> {
        let scores = self.gda.query_scores(query);
        let wide = query.likeness().row(0).mapv(f64::from);
        let explain = |ranked: Ranked| {
            let c = ranked.category;
            let rows = self.support_set.rows(c);
            let of_category = self.support_set.likeness().slice_move(s![rows.clone(), ..]);
            let affinities = row_product(query.likeness(), of_category);
            let influence = self.influence();
            let of_rows =
                influence.map_or(Vec::new(), |influence| influence.of_rows(&self.support_set, &wide, c));
            let mut contributions: Vec<Contribution> = rows
                .zip(affinities.iter().zip(of_rows))
                .map(|(row, (&affinity, influence))| Contribution {
                    row,
                    affinity,
                    contribution: scores.support_factor * influence as f32,
                })
                .collect();
            Contribution::keep_largest(&mut contributions, support);
            Explanation {
                category: c,
                terms: vec![(zero_shot::TERM, scores.zero_shot(c)), (super::TERM, scores.discriminant(c))],
                reliability: Some(self.gda.reliability()[c]),
                gate: None,
                total: ranked.score,
                support: contributions,
            }
        };
        top_k(&self.gda.logits(query).row(0).to_vec(), k, 1.0).into_iter().map(explain).collect()
    }

    fn saved(&self) -> Option<Vec<u8>> {
        postcard::to_stdvec(&self.gda).ok()
    }

    fn size(&self) -> usize {
        let influence = self.influence.get().and_then(Option::as_ref);
        self.gda.size() + influence.map_or(0, Influence::size)
    }
}
