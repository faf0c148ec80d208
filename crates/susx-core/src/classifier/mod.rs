//! A classifier: a support set, ready to answer by any method.

mod explain;
mod method;
mod rank;

use std::sync::OnceLock;

use ndarray::{Array2, ArrayView2};

pub use explain::{Explanation, Weight};
pub use method::Method;
pub use rank::{Ranked, softmax, top_k};

use crate::gda::{self, Gda, Influence};
use crate::interrupt;
use crate::linalg::block_rows;
use crate::sus::SupportSet;
use crate::tip_x::{self, TipX};

/// A support set with what each method precomputes of it. Immutable: a change of the support set or of
/// the settings is a new fit.
#[derive(Clone, Debug)]
pub struct Classifier {
    tip_x: TipX,
    gda_params: gda::Params,
    /// Fitted when it is first asked for: who uses another method does not pay for it.
    gda: OnceLock<Option<Gda>>,
    influence: OnceLock<Option<Influence>>,
}

impl Classifier {
    /// As [`TipX::fit`], whose cost it is.
    pub fn fit(support_set: SupportSet, params: tip_x::Params, gda_params: gda::Params) -> Self {
        let tip_x = TipX::fit(support_set, params);
        Classifier { tip_x, gda_params, gda: OnceLock::new(), influence: OnceLock::new() }
    }

    /// The names, in the order of every row of logits.
    pub fn categories(&self) -> &[String] {
        self.support_set().categories()
    }

    /// What was fitted.
    pub fn support_set(&self) -> &SupportSet {
        self.tip_x.support_set()
    }

    /// d, the length of a query.
    pub fn dimensions(&self) -> usize {
        self.support_set().dimensions()
    }

    /// The method that answers where none is asked for.
    pub fn default_method(&self) -> Method {
        if self.support_set().is_empty() { Method::ZeroShot } else { Method::with_support() }
    }

    pub fn tip_x(&self) -> &TipX {
        &self.tip_x
    }

    /// Fits it when it is first called; `None` where there is nothing to go by: see [`Gda::fit`].
    pub fn gda(&self) -> Option<&Gda> {
        let fit = || Gda::fit(self.support_set(), self.tip_x.params().logit_scale, self.gda_params);
        self.gda.get_or_init(|| if self.support_set().is_empty() { None } else { fit() }).as_ref()
    }

    /// What single support rows do to the discriminant, fitted when it is first asked for.
    fn influence(&self) -> Option<&Influence> {
        let fit = || Influence::fit(self.support_set(), self.tip_x.params().logit_scale, self.gda_params);
        self.influence.get_or_init(fit).as_ref()
    }

    /// Bytes on the heap, for whoever keeps several.
    pub fn size(&self) -> usize {
        self.tip_x.size()
            + self.gda.get().and_then(Option::as_ref).map_or(0, Gda::size)
            + self.influence.get().and_then(Option::as_ref).map_or(0, Influence::size)
    }

    /// The logits (N x C) of unit queries (N x d). The discriminant of a support set that tells no two
    /// categories apart is that of the names.
    pub fn logits(&self, queries: ArrayView2<f32>, method: Method) -> Array2<f32> {
        interrupt::check();
        match self.answering(method) {
            Answering::Gda(gda) => gda.logits(queries),
            Answering::TipX(method) => self.tip_x.logits(queries, method),
        }
    }

    /// Queries whose logits are in memory at a time.
    pub fn most_queries(&self) -> usize {
        block_rows(self.categories().len(), usize::MAX)
    }

    /// What answers for a method.
    fn answering(&self, method: Method) -> Answering<'_> {
        match method {
            Method::Gda => self.gda().map_or(Answering::TipX(Method::ZeroShot), Answering::Gda),
            method => Answering::TipX(method),
        }
    }
}

/// The fit that answers, by which of its methods.
#[derive(Debug)]
enum Answering<'a> {
    TipX(Method),
    Gda(&'a Gda),
}
