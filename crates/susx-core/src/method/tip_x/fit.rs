//! TIP-X, fitted on a support set.

use std::ops::Range;
use std::sync::Arc;

use ndarray::{Array2, ArrayView2, s};
use serde::{Deserialize, Serialize};

use super::kl::{KlQueries, KlTerm};
use super::scale::{self, AffinityScale};
use super::{LogitParts, Terms};
use crate::classifier::{Contribution, Explanation, ValidParams};
use crate::linalg::row_product;
use crate::method::bounded::{Bounded, Composition};
use crate::method::tip_adapter::{CacheBounds, TipAdapter};
use crate::method::{FittedMethod, MethodLogits};
use crate::queries::Queries;
use crate::sus::SupportSet;

/// A support set with everything precomputed that does not depend on the query. Immutable.
#[derive(Clone, Debug)]
pub struct TipX {
    pub(super) adapter: TipAdapter,
    pub(super) kl: Option<ScaledKl>,
    /// Where bounds are worth their costs.
    bounds: Option<CacheBounds>,
}

/// What takes long to fit.
pub(in crate::method) type Saved = (Option<ScaledKl>, Option<CacheBounds>);

/// The KL term and the constants that scale it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::method) struct ScaledKl {
    pub(super) term: KlTerm,
    pub(super) scale: AffinityScale,
}

impl TipX {
    /// Precomputes everything that queries have in common. O(M C d), and O(min(M, 4096)^2 d) for the scale of the KL
    /// term, which is left out if gamma is 0. With many support rows per category, also what the [bounds](CacheBounds) of their
    /// caches cost.
    pub fn fit(support_set: impl Into<Arc<SupportSet>>, params: ValidParams) -> Self {
        let support_set = support_set.into();
        let kl = (!support_set.is_empty() && params.gamma > 0.0).then(|| {
            let term = KlTerm::fit(&support_set, params.temperature);
            let scale = scale::of_support(&support_set, &term);
            ScaledKl { term, scale }
        });
        let bounds = CacheBounds::of(&support_set, None);
        TipX { adapter: TipAdapter::fit(support_set, params), kl, bounds }
    }

    pub(in crate::method) fn boxed(
        support_set: &Arc<SupportSet>,
        params: ValidParams,
    ) -> Option<Box<dyn FittedMethod>> {
        Some(Box::new(Self::fit(Arc::clone(support_set), params)))
    }

    /// The fit of the same support set and parameters.
    pub(in crate::method) fn with_saved(
        support_set: &Arc<SupportSet>,
        params: ValidParams,
        (kl, bounds): Saved,
    ) -> Self {
        let bounds = bounds.map(CacheBounds::aligned);
        TipX { adapter: TipAdapter::fit(Arc::clone(support_set), params), kl, bounds }
    }

    /// The parts that take long to fit.
    pub(in crate::method) fn to_save(&self) -> (&Option<ScaledKl>, &Option<CacheBounds>) {
        (&self.kl, &self.bounds)
    }

    pub(in crate::method) fn restored(
        support_set: &Arc<SupportSet>,
        params: ValidParams,
        saved: &[u8],
    ) -> Option<Box<dyn FittedMethod>> {
        Some(Box::new(Self::with_saved(support_set, params, postcard::from_bytes(saved).ok()?)))
    }

    /// The parameters that it was fitted with.
    pub(in crate::method) fn params(&self) -> ValidParams {
        self.adapter.params
    }

    /// The support set that was fitted.
    pub fn support_set(&self) -> &SupportSet {
        &self.adapter.support_set
    }

    /// The frozen constants of the KL term; `None` without one.
    pub fn affinity_scale(&self) -> Option<AffinityScale> {
        self.kl.as_ref().map(|kl| kl.scale)
    }

    /// The terms of the logits of queries.
    ///
    /// A category without support gets the cache and KL terms of the supported category that gains most from them.
    pub fn terms<'a>(&self, queries: impl Into<Queries<'a>>) -> Terms {
        let queries = queries.into();
        self.adapter.terms(queries, |cosines| self.kl_term(cosines))
    }

    /// Like [`terms`](Self::terms), from the queries' cosines to the zeroshot weights (n × C), with the largest cosine of
    /// each query to a support row (n).
    pub(in crate::method) fn terms_and_nearest(
        &self,
        queries: Queries,
        cosines: Array2<f32>,
    ) -> (Terms, Vec<f32>) {
        self.adapter.terms_and_nearest(queries, cosines, |cosines| self.kl_term(cosines))
    }

    /// The KL term (n × C) from the queries' cosines to the zeroshot weights (n × C).
    fn kl_term(&self, cosines: ArrayView2<f32>) -> Option<Array2<f32>> {
        let ScaledKl { term, scale } = self.kl.as_ref()?;
        let weight = -self.adapter.params.gamma * self.adapter.balance.mean_count;
        let queries = term.queries(self.support_set().zeroshot_weights(), cosines);
        Some(term.divergences(&queries, |_, _, divergence| weight * scale.apply(divergence)))
    }

    /// The parts of the logits of queries that do not depend on alpha, beta and gamma. The KL part is 0 for
    /// a fit with gamma 0.
    pub fn parts<'a>(&self, queries: impl Into<Queries<'a>>) -> LogitParts {
        LogitParts::of(self, queries.into())
    }

    /// What each support row of a category adds to the category's logit, for a single query.
    pub(in crate::method) fn contributions(&self, query: Queries, category: usize) -> Vec<Contribution> {
        self.adapter.contributions(query, &self.kl_of_query(query), category)
    }

    /// A function that gives what some support rows take off by the KL term, for a single query.
    fn kl_of_query(&self, query: Queries) -> impl Fn(Range<usize>) -> Vec<f32> {
        let kl = self.kl.as_ref().map(|kl| {
            let weights = self.support_set().zeroshot_weights();
            (kl, kl.term.queries(weights, self.support_set().cosines(query.features()).view()))
        });
        move |rows| match &kl {
            Some((kl, query)) => self.kl_of_rows(kl, query, rows),
            None => vec![0.0; rows.len()],
        }
    }

    /// `gamma * (a KL(p || q_i) + b)` of some support rows, for the query with these cosines (1 × C).
    fn kl_of_rows(&self, kl: &ScaledKl, query: &KlQueries, rows: Range<usize>) -> Vec<f32> {
        let support_set = self.support_set();
        let features = support_set.features().slice_move(s![rows, ..]);
        let (centred, lambda) = kl.term.centred(support_set.zeroshot_weights(), features);
        let products = row_product(query.projected.view(), centred.view());
        let divergence = products.iter().zip(lambda).map(|(product, lambda)| f64::from(lambda - product));
        let gamma = self.adapter.params.gamma;
        divergence.map(|own| gamma * kl.scale.apply(query.shared[0] + own)).collect()
    }
}

impl FittedMethod for TipX {
    fn logits(&self, queries: Queries) -> MethodLogits {
        MethodLogits::plain(self.terms(queries).sum())
    }

    fn explain(&self, query: Queries, k: usize, support: usize) -> Vec<Explanation> {
        let terms = self.terms(query);
        self.adapter.explain_terms(query, &terms, self.kl_of_query(query), k, support)
    }

    fn best(&self, queries: Queries) -> Vec<usize> {
        self.best_by_bounds(queries)
    }

    fn saved(&self) -> Option<Vec<u8>> {
        postcard::to_stdvec(&self.to_save()).ok()
    }

    fn size(&self) -> usize {
        self.adapter.size()
            + self.kl.as_ref().map_or(0, |kl| kl.term.size())
            + self.bounds.as_ref().map_or(0, CacheBounds::size)
    }
}

impl Bounded for TipX {
    const IS_EXACT: bool = true;

    fn bounds(&self) -> Option<&CacheBounds> {
        self.bounds.as_ref()
    }

    fn composition(&self) -> Composition<'_> {
        let TipAdapter { support_set, params, balance } = &self.adapter;
        Composition {
            support_set,
            logit_scale: params.logit_scale,
            beta: params.beta,
            weights: None,
            lending: &balance.lending,
            deficit: 0.0,
            claims: None,
        }
    }

    fn gates(&self, cosines: ArrayView2<f32>) -> Vec<f32> {
        vec![1.0; cosines.nrows()]
    }

    fn rest(&self, _: Queries, cosines: ArrayView2<f32>) -> Array2<f32> {
        self.kl_term(cosines).unwrap_or_else(|| Array2::zeros(cosines.dim()))
    }

    fn cache_of_sum(&self, category: usize, sum: f32) -> f32 {
        self.adapter.cache_of_sum(category, sum)
    }
}
