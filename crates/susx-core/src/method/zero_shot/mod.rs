//! Zero-shot CLIP: the logit of category `c` is `logit_scale * s_c`, where `s_c` is the cosine of the image and the
//! category's zeroshot weight.

use std::sync::Arc;

use ndarray::{Array2, ArrayView2};

use super::{FittedMethod, MethodLogits};
use crate::classifier::{Explanation, Ranked, ValidParams, top_k};
use crate::queries::Queries;
use crate::sus::SupportSet;

/// Name of the term.
pub(super) const TERM: &str = "zero_shot";

/// The category names alone.
#[derive(Clone, Debug)]
pub(super) struct ZeroShot {
    support_set: Arc<SupportSet>,
    logit_scale: f32,
}

impl ZeroShot {
    pub fn fit(support_set: Arc<SupportSet>, params: ValidParams) -> Self {
        ZeroShot { support_set, logit_scale: params.logit_scale }
    }

    pub fn boxed(support_set: &Arc<SupportSet>, params: ValidParams) -> Option<Box<dyn FittedMethod>> {
        Some(Box::new(Self::fit(Arc::clone(support_set), params)))
    }

    fn scores(&self, queries: ArrayView2<f32>) -> Array2<f32> {
        self.support_set.cosines(queries) * self.logit_scale
    }
}

impl FittedMethod for ZeroShot {
    fn logits(&self, queries: Queries) -> MethodLogits {
        MethodLogits::plain(self.scores(queries.features()))
    }

    fn explain(&self, query: Queries, k: usize, _support: usize) -> Vec<Explanation> {
        let explain = |ranked: Ranked| Explanation {
            category: ranked.category,
            terms: vec![(TERM, ranked.score)],
            reliability: None,
            gate: None,
            total: ranked.score,
            support: Vec::new(),
        };
        top_k(&self.scores(query.features()).row(0).to_vec(), k, 1.0).into_iter().map(explain).collect()
    }

    fn size(&self) -> usize {
        0
    }
}
