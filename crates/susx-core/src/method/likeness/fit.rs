//! The method, fitted on a support set.

use std::sync::{Arc, OnceLock};

use ndarray::{Array2, ArrayView2};

use super::sharpness;
use super::sizes::Sizes;
use super::terms::SupportTerms;
use crate::classifier::{Explanation, ValidParams};
use crate::method::bounded::{Bounded, Composition};
use crate::method::gated_tip_x::sharpness::Sharpness;
use crate::method::gated_tip_x::{self, Absent, Claims, DEFICIT, Gate, GateReading, Worth};
use crate::method::gda::{self, Influence};
use crate::method::tip_adapter::{self, CacheBounds};
use crate::method::{FittedMethod, MethodLogits, zero_shot};
use crate::queries::Queries;
use crate::sus::SupportSet;

/// Names by embeddings, images by likeness. Immutable.
#[derive(Debug)]
pub struct Likeness {
    pub(super) support_set: Arc<SupportSet>,
    pub(super) params: ValidParams,
    pub(super) gate: Gate,
    pub(super) absent: Absent,
    pub(super) claims: Claims,
    pub(super) worth: Worth,
    pub(super) terms: SupportTerms,
    pub(super) sizes: Sizes,
    sharpness: Sharpness,
    bounds: Option<CacheBounds>,
    /// Computed for the first explanation.
    pub(super) influence: OnceLock<Influence>,
}

/// What takes long to fit.
type Saved = (Gate, Worth, SupportTerms, Sizes, Sharpness, Option<CacheBounds>);

/// The terms of logits, each N × C.
#[derive(Clone, Debug)]
pub(super) struct LogitTerms {
    pub zero_shot: Array2<f32>,
    pub cache: Array2<f32>,
    pub discriminant: Array2<f32>,
    /// What claimed names lose.
    pub claims: Array2<f32>,
    /// `h`, N.
    pub familiar: Vec<f32>,
}

impl LogitTerms {
    pub fn sum(&self) -> Array2<f32> {
        &self.zero_shot + &self.cache + &self.discriminant + &self.claims
    }

    /// The terms of one logit, by name.
    pub fn named(&self, query: usize, category: usize) -> Vec<(&'static str, f32)> {
        let at = (query, category);
        vec![
            (zero_shot::TERM, self.zero_shot[at]),
            (tip_adapter::TERM, self.cache[at]),
            (gda::TERM, self.discriminant[at]),
            (gated_tip_x::TERM, self.claims[at]),
        ]
    }
}

impl Likeness {
    /// Fits a support set that is not empty. O(M d C + M e min(M, e) + min(M, e)^3), and O(min(M, 4096)^2 e) for the
    /// constants.
    pub fn fit(support_set: impl Into<Arc<SupportSet>>, params: ValidParams) -> Self {
        let support_set = support_set.into();
        let worth = Worth::of(&support_set, params);
        let terms = SupportTerms::fit(&support_set, params.logit_scale, params.ridge);
        let sizes = Sizes::of(&support_set, &terms, &worth, params);
        let mut fit = Likeness {
            gate: Gate::fit(&support_set, &worth),
            absent: Absent::of(&support_set),
            claims: Claims::new(&support_set, &worth).times(sizes.claims),
            bounds: CacheBounds::of(&support_set, Some(&terms.weights)),
            sizes,
            support_set,
            params,
            worth,
            terms,
            sharpness: Sharpness::LOGITS,
            influence: OnceLock::new(),
        };
        fit.sharpness = sharpness::of(&fit);
        fit
    }

    /// Without likeness vectors there is nothing that the names' own encoder does not know: that is gated TIP-X.
    pub(in crate::method) fn boxed(
        support_set: &Arc<SupportSet>,
        params: ValidParams,
    ) -> Option<Box<dyn FittedMethod>> {
        if support_set.has_likeness() {
            Some(Box::new(Self::fit(Arc::clone(support_set), params)))
        } else {
            gated_tip_x::GatedTipX::boxed(support_set, params)
        }
    }

    pub(in crate::method) fn restored(
        support_set: &Arc<SupportSet>,
        params: ValidParams,
        saved: &[u8],
    ) -> Option<Box<dyn FittedMethod>> {
        if !support_set.has_likeness() {
            return gated_tip_x::GatedTipX::restored(support_set, params, saved);
        }
        let (gate, worth, terms, sizes, sharpness, bounds): Saved = postcard::from_bytes(saved).ok()?;
        Some(Box::new(Likeness {
            gate,
            absent: Absent::of(support_set),
            claims: Claims::new(support_set, &worth).times(sizes.claims),
            support_set: Arc::clone(support_set),
            params,
            worth,
            terms: terms.aligned(),
            sizes,
            sharpness,
            bounds: bounds.map(CacheBounds::aligned),
            influence: OnceLock::new(),
        }))
    }

    /// The support set that was fitted.
    pub fn support_set(&self) -> &SupportSet {
        &self.support_set
    }

    /// The cosines of queries to the zeroshot weights, N × C.
    pub(super) fn cosines(&self, queries: Queries) -> Array2<f32> {
        self.support_set.cosines(queries.features())
    }

    /// The names' logits, N × C, from these cosines.
    pub(super) fn zero_shot(&self, cosines: Array2<f32>) -> Array2<f32> {
        cosines * self.params.logit_scale
    }

    /// Cache and discriminant, centred and multiplied by their sizes, before the gate.
    pub(super) fn centred(
        &self,
        mut cache: Array2<f32>,
        mut discriminant: Array2<f32>,
    ) -> (Array2<f32>, Array2<f32>) {
        for (part, size) in [(&mut cache, self.sizes.cache), (&mut discriminant, self.sizes.discriminant)] {
            for mut row in part.rows_mut() {
                let mean = self.terms.mean(row.view());
                row.mapv_inplace(|value| size * (value - mean));
            }
        }
        (cache, discriminant)
    }

    /// The terms of the logits of queries with these cosines to the zeroshot weights (N × C) and these gates (N).
    pub(super) fn terms(&self, queries: Queries, cosines: Array2<f32>, gates: &[GateReading]) -> LogitTerms {
        let (cache, nearest) = self.terms.cache(&self.support_set, queries.likeness());
        let discriminant = self.terms.discriminant(queries.likeness());
        let (mut cache, mut discriminant) = self.centred(cache, discriminant);
        self.absent.fill(&mut cache, Some(&mut discriminant));
        for part in [&mut cache, &mut discriminant] {
            for (mut row, reading) in part.rows_mut().into_iter().zip(gates) {
                row *= reading.gate;
            }
        }
        let familiar: Vec<f32> = nearest.into_iter().map(|nearest| self.claims.familiar(nearest)).collect();
        let claims = self.claims.terms(&familiar);
        LogitTerms { zero_shot: self.zero_shot(cosines), cache, discriminant, claims, familiar }
    }
}

impl FittedMethod for Likeness {
    fn logits(&self, queries: Queries) -> MethodLogits {
        let cosines = self.cosines(queries);
        let gates = self.gate.read(cosines.view());
        let terms = self.terms(queries, cosines, &gates);
        let mut logits = MethodLogits::plain(terms.sum());
        for (sharpness, (reading, &familiar)) in
            logits.sharpness.iter_mut().zip(gates.iter().zip(&terms.familiar))
        {
            *sharpness = self.sharpness.at(reading.gate, familiar);
        }
        logits.resemblance = Some(gates.iter().map(|reading| reading.resemblance).collect());
        logits
    }

    fn explain(&self, query: Queries, k: usize, support: usize) -> Vec<Explanation> {
        self.explained(query, k, support)
    }

    fn best(&self, queries: Queries) -> Vec<usize> {
        self.best_by_bounds(queries)
    }

    fn saved(&self) -> Option<Vec<u8>> {
        let Likeness { gate, worth, terms, sizes, sharpness, bounds, .. } = self;
        postcard::to_stdvec(&(gate, worth, terms, sizes, sharpness, bounds)).ok()
    }

    fn size(&self) -> usize {
        self.gate.size()
            + self.absent.size()
            + self.claims.size()
            + self.worth.size()
            + self.terms.size()
            + self.bounds.as_ref().map_or(0, CacheBounds::size)
            + self.influence.get().map_or(0, Influence::size)
    }
}

/// The means over the categories, which are subtracted from cache and discriminant, are the same for all categories.
impl Bounded for Likeness {
    const IS_EXACT: bool = false;

    fn bounds(&self) -> Option<&CacheBounds> {
        self.bounds.as_ref()
    }

    fn composition(&self) -> Composition<'_> {
        Composition {
            support_set: &self.support_set,
            logit_scale: self.params.logit_scale,
            beta: self.terms.beta,
            weights: Some(&self.terms.weights),
            lending: self.absent.lending(),
            deficit: DEFICIT,
            claims: Some(&self.claims),
        }
    }

    fn gates(&self, cosines: ArrayView2<f32>) -> Vec<f32> {
        self.gate.read(cosines).iter().map(|reading| reading.gate).collect()
    }

    fn rest(&self, queries: Queries, _: ArrayView2<f32>) -> Array2<f32> {
        self.terms.discriminant(queries.likeness()) * self.sizes.discriminant
    }

    fn cache_of_sum(&self, category: usize, sum: f32) -> f32 {
        self.sizes.cache * self.terms.factors[category] * sum
    }
}
