//! A classifier ready to answer.

use ndarray::{Array2, ArrayView2};

use super::Params;
use super::kl::KlTerm;
use super::scale::AffinityScale;
use crate::classifier::Method;
use crate::sus::SupportSet;

/// A support set with everything precomputed that does not depend on the query.
///
/// Immutable: a change of the support set or of the parameters is a new fit.
#[derive(Clone, Debug)]
pub struct TipX {
    pub(super) params: Params,
    pub(super) support_set: SupportSet,
    /// `n/n_c`, C; 0 for a category without support.
    pub(super) balance: Vec<f32>,
    /// `n`, the mean number of support rows per category.
    pub(super) mean_count: f32,
    pub(super) kl: Option<KlTerm>,
}

impl TipX {
    /// Freezes everything that queries have in common. O(M C d), and O(min(M, 4096)^2 d) for the
    /// scale of the KL term, which is skipped where nothing can ask for it.
    pub fn fit(support_set: SupportSet, params: Params) -> Self {
        let (mean_count, balance) = balance(&support_set);
        let kl = (!support_set.is_empty() && params.gamma > 0.0)
            .then(|| KlTerm::fit(&support_set, params.temperature));
        TipX { params, support_set, balance, mean_count, kl }
    }

    /// The names, in the order of every row of logits.
    pub fn categories(&self) -> &[String] {
        self.support_set.categories()
    }

    /// What was fitted.
    pub fn support_set(&self) -> &SupportSet {
        &self.support_set
    }

    /// The settings that it was fitted with.
    pub fn params(&self) -> Params {
        self.params
    }

    /// d, the length of a query.
    pub fn dimensions(&self) -> usize {
        self.support_set.dimensions()
    }

    /// The frozen constants of the KL term, if there is one.
    pub fn affinity_scale(&self) -> Option<AffinityScale> {
        self.kl.as_ref().map(KlTerm::scale)
    }

    /// Bytes on the heap, for whoever keeps several.
    pub fn size(&self) -> usize {
        self.support_set.size()
            + self.balance.len() * size_of::<f32>()
            + self.kl.as_ref().map_or(0, KlTerm::size)
    }

    /// The logits (N x C) of unit queries (N x d): the sum of the [`terms`](Self::terms).
    pub fn logits(&self, queries: ArrayView2<f32>, method: Method) -> Array2<f32> {
        self.terms(queries, method).sum()
    }
}

/// The mean number of support rows per category, and its ratio to each category's own number, C; 0 for
/// a category without support.
pub(super) fn balance(support_set: &SupportSet) -> (f32, Vec<f32>) {
    let categories = support_set.categories().len();
    let mean_count = support_set.len() as f32 / categories as f32;
    let ratio = |c| match support_set.rows(c).len() {
        0 => 0.0,
        count => mean_count / count as f32,
    };
    (mean_count, (0..categories).map(ratio).collect())
}
