//! TIP-X behind a gate, fitted on a support set.

use std::sync::Arc;

use ndarray::{Array2, ArrayView2, Axis};

use super::absent::Absent;
use super::gate::{Gate, GateReading};
use crate::classifier::{Contribution, Explanation, Ranked, ValidParams, top_k};
use crate::linalg::{product, range};
use crate::method::tip_x::{Terms, TipX};
use crate::method::{BoundedLogits, FittedMethod};
use crate::sus::SupportSet;

/// TIP-X and the gate before its terms. Immutable.
#[derive(Clone, Debug)]
pub(in crate::method) struct GatedTipX {
    tip_x: TipX,
    gate: Gate,
    absent: Absent,
}

impl GatedTipX {
    /// Fits a support set that is not empty. As [`TipX::fit`], and O(M d (C + min(M, d)) + min(M, d)^3).
    pub fn fit(support_set: &Arc<SupportSet>, params: ValidParams) -> Self {
        GatedTipX {
            tip_x: TipX::fit(Arc::clone(support_set), params),
            gate: Gate::fit(support_set, params),
            absent: Absent::of(support_set),
        }
    }

    pub fn boxed(support_set: &Arc<SupportSet>, params: ValidParams) -> Option<Box<dyn FittedMethod>> {
        Some(Box::new(Self::fit(support_set, params)))
    }

    fn support_set(&self) -> &SupportSet {
        self.tip_x.support_set()
    }

    /// The terms of the logits of unit queries (N × d), those of the support set multiplied by the gates (N).
    fn terms(&self, queries: ArrayView2<f32>, gates: &[GateReading]) -> Terms {
        let open: Vec<usize> = (0..gates.len()).filter(|&row| gates[row].gate > 0.0).collect();
        if open.len() == gates.len() {
            return self.gated_terms(queries, gates.iter().map(|reading| reading.gate));
        }
        // The support set has no say about the others, so they do not pay for it.
        let gated =
            self.gated_terms(queries.select(Axis(0), &open).view(), open.iter().map(|&row| gates[row].gate));
        let weights = self.support_set().zeroshot_weights();
        let zero_shot = product(queries, weights) * self.tip_x.params().logit_scale;
        let spread = |term: Option<Array2<f32>>| {
            let mut all = Array2::zeros(zero_shot.dim());
            for (&row, term) in open.iter().zip(term?.rows()) {
                all.row_mut(row).assign(&term);
            }
            Some(all)
        };
        let (cache, kl) = (spread(gated.cache), spread(gated.kl));
        Terms { zero_shot, cache, kl }
    }

    /// As [`terms`](Self::terms), whether the gates are open or not.
    fn gated_terms(&self, queries: ArrayView2<f32>, gates: impl Iterator<Item = f32>) -> Terms {
        let Terms { zero_shot, cache, kl } = self.tip_x.terms(queries);
        if cache.is_none() && kl.is_none() {
            return Terms { zero_shot, cache, kl };
        }
        let [mut cache, mut kl] =
            [cache, kl].map(|term| term.unwrap_or_else(|| Array2::zeros(zero_shot.dim())));
        self.absent.fill(&mut cache, &mut kl);
        for ((mut cache, mut kl), gate) in cache.rows_mut().into_iter().zip(kl.rows_mut()).zip(gates) {
            cache *= gate;
            kl *= gate;
        }
        Terms { zero_shot, cache: Some(cache), kl: Some(kl) }
    }

    /// What each row of a category adds to the category's logit; nothing for an absent category.
    fn contributions(&self, query: ArrayView2<f32>, category: usize, gate: f32) -> Vec<Contribution> {
        if self.absent.contains(category) {
            return Vec::new();
        }
        let mut contributions = self.tip_x.contributions(query, category);
        for one in &mut contributions {
            one.contribution *= gate;
        }
        contributions
    }
}

impl FittedMethod for GatedTipX {
    fn logits(&self, queries: ArrayView2<f32>) -> BoundedLogits {
        let gates = self.gate.read(queries);
        let terms = self.terms(queries, &gates);
        let support = terms.support();
        let mut bounded = self.tip_x.bounded_logits(terms);
        if let Some(support) = support {
            for ((rounding, support), reading) in bounded.rounding.iter_mut().zip(support.rows()).zip(&gates)
            {
                // The terms are e times the gate, which may be off by some part of it, or closed.
                if let (Some(row), true) = (support.as_slice(), reading.gate > 0.0) {
                    let (low, high) = range(row);
                    *rounding += (high - low) / reading.gate * self.gate.rounding();
                }
            }
        }
        bounded
    }

    fn explain(&self, query: ArrayView2<f32>, k: usize, support: usize) -> Vec<Explanation> {
        let gates = self.gate.read(query);
        let terms = self.terms(query, &gates);
        let logits = terms.clone().sum().row(0).to_vec();
        let explain = |ranked: Ranked| {
            let c = ranked.category;
            let mut contributions = self.contributions(query, c, gates[0].gate);
            Contribution::keep_largest(&mut contributions, support);
            Explanation {
                category: c,
                terms: terms.named(0, c),
                reliability: Some(self.gate.reliability()[c]),
                gate: Some(gates[0]),
                total: ranked.score,
                support: contributions,
            }
        };
        top_k(&logits, k, 1.0).into_iter().map(explain).collect()
    }

    fn size(&self) -> usize {
        FittedMethod::size(&self.tip_x) + self.gate.size() + self.absent.size()
    }
}
