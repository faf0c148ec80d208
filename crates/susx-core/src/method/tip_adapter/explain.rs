//! Explanations of logits that are sums over support rows.

use std::ops::Range;

use ndarray::s;

use super::cache::sharpen;
use super::{Terms, TipAdapter};
use crate::classifier::{Contribution, Explanation, Ranked, top_k};
use crate::linalg::row_product;
use crate::queries::Queries;

impl TipAdapter {
    /// The `k` best categories of a single query with these terms, best first, each with up to `support` rows.
    /// `kl` gives what each of some rows takes off by the KL term, before balancing. A category without support shows
    /// the rows of the category whose terms it has: see [`terms`](Self::terms).
    pub fn explain_terms(
        &self,
        query: Queries,
        terms: &Terms,
        kl: impl Fn(Range<usize>) -> Vec<f32>,
        k: usize,
        support: usize,
    ) -> Vec<Explanation> {
        let at = |term: &Option<ndarray::Array2<f32>>, c: usize| term.as_ref().map_or(0.0, |t| t[(0, c)]);
        let logits = terms.clone().sum().row(0).to_vec();
        let lender = self.balance.lending.lender(|c| at(&terms.cache, c) + at(&terms.kl, c));
        let has_support = terms.cache.is_some() || terms.kl.is_some();
        let explain = |ranked: Ranked| {
            let c = ranked.category;
            let source = if self.balance.ratio[c] > 0.0 { Some(c) } else { lender };
            let mut contributions = match source.filter(|_| has_support) {
                Some(source) => self.contributions(query, &kl, source),
                None => Vec::new(),
            };
            Contribution::keep_largest(&mut contributions, support);
            Explanation {
                category: c,
                terms: terms.named(0, c),
                reliability: None,
                gate: None,
                total: ranked.score,
                support: contributions,
            }
        };
        top_k(&logits, k, 1.0).into_iter().map(explain).collect()
    }

    /// What each support row of a category adds to the category's logit.
    pub(in crate::method) fn contributions(
        &self,
        query: Queries,
        kl: &impl Fn(Range<usize>) -> Vec<f32>,
        category: usize,
    ) -> Vec<Contribution> {
        let rows = self.support_set.rows(category);
        let support = self.support_set.likeness().slice_move(s![rows.clone(), ..]);
        let affinities = row_product(query.likeness(), support);
        let mut sharpened: Vec<f32> = affinities.iter().copied().collect();
        sharpen(&mut sharpened, self.params.beta);
        let balance = self.balance.ratio[category];
        let kl = kl(rows.clone());
        rows.zip(affinities.iter().zip(sharpened).zip(kl))
            .map(|(row, ((&affinity, sharpened), kl))| Contribution {
                row,
                affinity,
                contribution: balance * (self.params.alpha * sharpened - kl),
            })
            .collect()
    }
}
