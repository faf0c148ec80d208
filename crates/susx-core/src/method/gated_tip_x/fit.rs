//! TIP-X behind a gate, fitted on a support set.

use std::sync::Arc;

use ndarray::{Array2, ArrayView2, Axis};

use super::absent::{Absent, DEFICIT};
use super::claims::Claims;
use super::gate::{Gate, GateReading};
use super::sharpness::Sharpness;
use super::support::Worth;
use crate::classifier::{Contribution, Explanation, Ranked, ValidParams, top_k};
use crate::method::bounded::{Bounded, Composition};
use crate::method::tip_adapter::CacheBounds;
use crate::method::tip_x::{self, Terms, TipX};
use crate::method::{FittedMethod, MethodLogits};
use crate::queries::Queries;
use crate::sus::SupportSet;

/// TIP-X, the gate before its terms, and the names that others claim. Immutable.
#[derive(Clone, Debug)]
pub struct GatedTipX {
    pub(super) tip_x: TipX,
    pub(super) gate: Gate,
    pub(super) absent: Absent,
    pub(super) claims: Claims,
    pub(super) worth: Worth,
    sharpness: Sharpness,
}

/// What takes long to fit.
type Saved = (tip_x::Saved, Gate, Worth, Sharpness);

/// The terms of logits, each N × C.
#[derive(Clone, Debug)]
struct GatedTerms {
    /// Those of TIP-X, with the gates in the support set's.
    tip_x: Terms,
    /// What claimed names lose; `None` if there are none.
    claims: Option<Array2<f32>>,
    /// `h`: how like a support row each query is, 0 to 1, N; 0 where nothing depends on it.
    familiar: Vec<f32>,
}

impl GatedTerms {
    fn sum(self) -> Array2<f32> {
        let logits = self.tip_x.sum();
        match self.claims {
            Some(claims) => logits + claims,
            None => logits,
        }
    }

    /// The terms of one logit, by name.
    fn named(&self, query: usize, category: usize) -> Vec<(&'static str, f32)> {
        let mut terms = self.tip_x.named(query, category);
        terms.push((super::TERM, self.claims.as_ref().map_or(0.0, |claims| claims[(query, category)])));
        terms
    }
}

impl GatedTipX {
    /// Fits a support set that is not empty. As [`TipX::fit`], and O(M d (C + min(M, d)) + min(M, d)^3).
    pub fn fit(support_set: impl Into<Arc<SupportSet>>, params: ValidParams) -> Self {
        let support_set = support_set.into();
        let worth = Worth::of(&support_set, params);
        let mut gated = GatedTipX {
            gate: Gate::fit(&support_set, &worth),
            absent: Absent::of(&support_set),
            claims: Claims::new(&support_set, &worth),
            tip_x: TipX::fit(support_set, params),
            worth,
            sharpness: Sharpness::LOGITS,
        };
        gated.sharpness = Sharpness::of(&gated);
        gated
    }

    pub(in crate::method) fn boxed(
        support_set: &Arc<SupportSet>,
        params: ValidParams,
    ) -> Option<Box<dyn FittedMethod>> {
        Some(Box::new(Self::fit(Arc::clone(support_set), params)))
    }

    pub(in crate::method) fn restored(
        support_set: &Arc<SupportSet>,
        params: ValidParams,
        saved: &[u8],
    ) -> Option<Box<dyn FittedMethod>> {
        let (tip_x, gate, worth, sharpness): Saved = postcard::from_bytes(saved).ok()?;
        Some(Box::new(GatedTipX {
            gate,
            absent: Absent::of(support_set),
            claims: Claims::new(support_set, &worth),
            tip_x: TipX::with_saved(support_set, params, tip_x),
            worth,
            sharpness,
        }))
    }

    /// TIP-X on the same support set.
    pub fn tip_x(&self) -> &TipX {
        &self.tip_x
    }

    pub(super) fn support_set(&self) -> &SupportSet {
        self.tip_x.support_set()
    }

    /// The terms of the logits of queries with these cosines to the zeroshot weights (N × C) and these gates (N).
    fn terms(&self, queries: Queries, cosines: Array2<f32>, gates: &[GateReading]) -> GatedTerms {
        if !self.claims.is_empty() {
            let (terms, familiar) = self.gated(queries, cosines, gates.iter().map(|reading| reading.gate));
            return GatedTerms { tip_x: terms, claims: Some(self.claims.terms(&familiar)), familiar };
        }
        let open: Vec<usize> = (0..gates.len()).filter(|&row| gates[row].gate > 0.0).collect();
        // The support set does not affect the others, so they do not pay for it.
        let gates = open.iter().map(|&row| gates[row].gate);
        if open.len() == queries.len() {
            let (terms, familiar) = self.gated(queries, cosines, gates);
            return GatedTerms { tip_x: terms, claims: None, familiar };
        }
        let of_open = cosines.select(Axis(0), &open);
        let (of_open, familiar_of_open) = self.gated(queries.select(&open).view(), of_open, gates);
        let mut familiar = vec![0.0; queries.len()];
        for (&row, of_open) in open.iter().zip(familiar_of_open) {
            familiar[row] = of_open;
        }
        let zero_shot = cosines * self.tip_x.params().logit_scale;
        let spread = |term: Option<Array2<f32>>| {
            let mut all = Array2::zeros(zero_shot.dim());
            for (&row, term) in open.iter().zip(term?.rows()) {
                all.row_mut(row).assign(&term);
            }
            Some(all)
        };
        let (cache, kl) = (spread(of_open.cache), spread(of_open.kl));
        GatedTerms { tip_x: Terms { zero_shot, cache, kl }, claims: None, familiar }
    }

    /// The terms of TIP-X, those of the support set multiplied by the gates; and how like a support row each query is.
    fn gated(
        &self,
        queries: Queries,
        cosines: Array2<f32>,
        gates: impl Iterator<Item = f32>,
    ) -> (Terms, Vec<f32>) {
        let (Terms { zero_shot, cache, kl }, nearest) = self.tip_x.terms_and_nearest(queries, cosines);
        let familiar = nearest.into_iter().map(|nearest| self.claims.familiar(nearest)).collect();
        let [mut cache, mut kl] =
            [cache, kl].map(|term| term.unwrap_or_else(|| Array2::zeros(zero_shot.dim())));
        self.absent.fill(&mut cache, Some(&mut kl));
        for ((mut cache, mut kl), gate) in cache.rows_mut().into_iter().zip(kl.rows_mut()).zip(gates) {
            cache *= gate;
            kl *= gate;
        }
        (Terms { zero_shot, cache: Some(cache), kl: Some(kl) }, familiar)
    }

    /// What each row of a category adds to the category's logit. An absent category shows the rows of the category whose
    /// terms it has, less the deficit.
    fn contributions(&self, query: Queries, terms: &Terms, category: usize, gate: f32) -> Vec<Contribution> {
        let source = self.absent.source(category, |c| terms.support_of(0, c));
        let mut contributions = source.map_or(Vec::new(), |source| self.tip_x.contributions(query, source));
        for one in &mut contributions {
            one.contribution *= gate;
        }
        contributions
    }
}

impl FittedMethod for GatedTipX {
    fn logits(&self, queries: Queries) -> MethodLogits {
        let cosines = self.support_set().cosines(queries.features());
        let gates = self.gate.read(cosines.view());
        let GatedTerms { tip_x, claims, familiar } = self.terms(queries, cosines, &gates);
        let mut logits = MethodLogits::plain(tip_x.sum());
        if let Some(claims) = claims {
            logits.logits += &claims;
        }
        for (sharpness, (reading, familiar)) in logits.sharpness.iter_mut().zip(gates.iter().zip(familiar)) {
            *sharpness = self.sharpness.at(reading.gate, familiar);
        }
        logits.resemblance = Some(gates.iter().map(|reading| reading.resemblance).collect());
        logits
    }

    fn explain(&self, query: Queries, k: usize, support: usize) -> Vec<Explanation> {
        let cosines = self.support_set().cosines(query.features());
        let gates = self.gate.read(cosines.view());
        let terms = self.terms(query, cosines, &gates);
        let logits = terms.clone().sum().row(0).to_vec();
        let explain = |ranked: Ranked| {
            let c = ranked.category;
            let contributions = self.contributions(query, &terms.tip_x, c, gates[0].gate);
            self.gate.explanation(ranked, gates[0], terms.named(0, c), contributions, support)
        };
        top_k(&logits, k, 1.0).into_iter().map(explain).collect()
    }

    fn best(&self, queries: Queries) -> Vec<usize> {
        self.best_by_bounds(queries)
    }

    fn saved(&self) -> Option<Vec<u8>> {
        let GatedTipX { tip_x, gate, worth, sharpness, .. } = self;
        postcard::to_stdvec(&(tip_x.to_save(), gate, worth, sharpness)).ok()
    }

    fn size(&self) -> usize {
        FittedMethod::size(&self.tip_x)
            + self.gate.size()
            + self.absent.size()
            + self.claims.size()
            + self.worth.size()
    }
}

impl Bounded for GatedTipX {
    const IS_EXACT: bool = true;

    fn bounds(&self) -> Option<&CacheBounds> {
        self.tip_x.bounds()
    }

    fn composition(&self) -> Composition<'_> {
        let lending = self.absent.lending();
        Composition { lending, deficit: DEFICIT, claims: Some(&self.claims), ..self.tip_x.composition() }
    }

    fn gates(&self, cosines: ArrayView2<f32>) -> Vec<f32> {
        self.gate.read(cosines).iter().map(|reading| reading.gate).collect()
    }

    fn rest(&self, queries: Queries, cosines: ArrayView2<f32>) -> Array2<f32> {
        self.tip_x.rest(queries, cosines)
    }

    fn cache_of_sum(&self, category: usize, sum: f32) -> f32 {
        self.tip_x.cache_of_sum(category, sum)
    }
}
