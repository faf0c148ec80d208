//! Every classification method: a folder each, and one table.
//!
//! A method is a type that implements [`FittedMethod`], in its own folder, and a row of the table below.

mod bounded;
pub mod gated_tip_x;
pub mod gda;
pub mod likeness;
pub mod tip_adapter;
pub mod tip_x;
pub mod zero_shot;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ndarray::{Array2, ArrayView1};
use serde::{Deserialize, Serialize};

use crate::classifier::{Explanation, ValidParams};
use crate::queries::Queries;
use crate::sus::SupportSet;

/// A method, fitted on a support set. Immutable.
pub(crate) trait FittedMethod: fmt::Debug + Send + Sync {
    /// The logits of queries. Each query gets what it gets alone, to the last bit.
    fn logits(&self, queries: Queries) -> MethodLogits;

    /// The best category of each query: the first of those with the largest logit.
    fn best(&self, queries: Queries) -> Vec<usize> {
        best_of(self, queries)
    }

    /// The `k` best categories of a single query, best first, each with up to `support` rows.
    fn explain(&self, query: Queries, k: usize, support: usize) -> Vec<Explanation>;

    /// What [`Method::restored`] needs besides the support set and the parameters; `None` if fitting it again is as fast.
    fn saved(&self) -> Option<Vec<u8>> {
        None
    }

    /// Size on the heap without the support set, in bytes.
    fn size(&self) -> usize;
}

/// The best categories by the logits of all.
pub(crate) fn best_of(method: &(impl FittedMethod + ?Sized), queries: Queries) -> Vec<usize> {
    let MethodLogits { logits, .. } = method.logits(queries);
    let best = |row: ArrayView1<f32>| first_of_largest(row.iter().copied().enumerate()).unwrap_or(0);
    logits.rows().into_iter().map(best).collect()
}

/// The first of the categories with the largest logit, as [`top_k`](crate::classifier::top_k) ranks them.
fn first_of_largest(logits: impl Iterator<Item = (usize, f32)>) -> Option<usize> {
    logits.reduce(|best, next| if next.1.total_cmp(&best.1).is_gt() { next } else { best }).map(|(c, _)| c)
}

/// Logits, and what a method knows besides.
#[derive(Clone, Debug)]
pub(crate) struct MethodLogits {
    /// N × C.
    pub logits: Array2<f32>,
    /// Factor of each row in the softmax that gives the probabilities, N. It changes no ranking.
    pub sharpness: Vec<f32>,
    /// Whether each query is as close to the names that it may be of as their support images are, 0 to 1, N: the `V` of
    /// [`Known`](crate::classifier::Known). `None` for a method that does not know it.
    pub resemblance: Option<Vec<f32>>,
}

impl MethodLogits {
    /// Logits whose softmax gives the probabilities.
    pub fn plain(logits: Array2<f32>) -> Self {
        let sharpness = vec![1.0; logits.nrows()];
        MethodLogits { logits, sharpness, resemblance: None }
    }
}

/// Fits a method on a support set with at least one image; `None` if it does not separate any two categories.
type FitMethod = fn(&Arc<SupportSet>, ValidParams) -> Option<Box<dyn FittedMethod>>;

/// A fit from what [`FittedMethod::saved`] has given, on the same support set with the same parameters. `None` if it is not
/// that.
type RestoreMethod = fn(&Arc<SupportSet>, ValidParams, &[u8]) -> Option<Box<dyn FittedMethod>>;

/// Generates [`Method`] from one row per method: documentation, variant, name in SQL, whether it needs support
/// images, the names of its terms, how it is fitted, and how it is restored.
macro_rules! methods {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $needs_support:literal, $terms:expr, $fit:expr, $restore:expr;)*) => {
        /// A classification method.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Method {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl Method {
            /// All methods.
            pub const ALL: [Method; METHODS.len()] = [$(Method::$variant),*];
        }

        const METHODS: &[MethodSpec] = &[
            $(MethodSpec { name: $name, needs_support: $needs_support, terms: $terms, fit: $fit, restore: $restore },)*
        ];
    };
}

/// What the table says of a method.
struct MethodSpec {
    name: &'static str,
    needs_support: bool,
    terms: &'static [&'static str],
    fit: FitMethod,
    restore: RestoreMethod,
}

/// For a method that saves nothing.
fn never(_: &Arc<SupportSet>, _: ValidParams, _: &[u8]) -> Option<Box<dyn FittedMethod>> {
    None
}

methods! {
    /// CLIP's own logits: the category names alone.
    ZeroShot = "zero-shot", false, &[zero_shot::TERM], zero_shot::ZeroShot::boxed, never;
    /// The cache of Tip-Adapter (Zhang et al., ECCV 2022), training-free.
    TipAdapter = "tip-adapter", true, &[zero_shot::TERM, tip_adapter::TERM], tip_adapter::TipAdapter::boxed,
        never;
    /// The cache and the KL term of SuS-X (Udandarao et al., ICCV 2023).
    TipX = "tip-x", true, &[zero_shot::TERM, tip_adapter::TERM, tip_x::TERM], tip_x::TipX::boxed,
        tip_x::TipX::restored;
    /// TIP-X, whose support terms are weighted by how reliable the support set is for the image.
    GatedTipX = "gated-tip-x", true, &[zero_shot::TERM, tip_adapter::TERM, tip_x::TERM, gated_tip_x::TERM],
        gated_tip_x::GatedTipX::boxed, gated_tip_x::GatedTipX::restored;
    /// A Gaussian discriminant on the support set, weighted by how reliable each category's support is.
    Gda = "gda", true, &[zero_shot::TERM, gda::TERM], gda::FittedGda::boxed,
        gda::FittedGda::restored;
    /// Names by embeddings, images by likeness vectors of another encoder; without these, gated TIP-X.
    Likeness = "likeness", true,
        &[zero_shot::TERM, tip_adapter::TERM, gda::TERM, gated_tip_x::TERM], likeness::Likeness::boxed,
        likeness::Likeness::restored;
}

/// A name that no method has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown method \"{0}\"")]
pub struct UnknownMethod(pub String);

impl Method {
    /// The method of a classifier with support images if none is asked for.
    pub const DEFAULT: Method = Method::GatedTipX;
    /// The same where the support images have likeness vectors.
    pub const DEFAULT_BY_LIKENESS: Method = Method::Likeness;

    /// The name in SQL.
    pub const fn name(self) -> &'static str {
        METHODS[self as usize].name
    }

    /// The terms that a logit of this method is the sum of.
    pub const fn terms(self) -> &'static [&'static str] {
        METHODS[self as usize].terms
    }

    /// The method, fitted; `None` if the support set does not allow it.
    pub(crate) fn fit(
        self,
        support_set: &Arc<SupportSet>,
        params: ValidParams,
    ) -> Option<Box<dyn FittedMethod>> {
        let spec = &METHODS[self as usize];
        if spec.needs_support && support_set.is_empty() { None } else { (spec.fit)(support_set, params) }
    }

    /// The method, from what its fit [saved](FittedMethod::saved); `None` if it is not that.
    pub(crate) fn restored(
        self,
        support_set: &Arc<SupportSet>,
        params: ValidParams,
        saved: &[u8],
    ) -> Option<Box<dyn FittedMethod>> {
        (METHODS[self as usize].restore)(support_set, params, saved)
    }

    /// The method that answers where another cannot be fitted.
    pub(crate) fn zero_shot(support_set: &Arc<SupportSet>, params: ValidParams) -> Box<dyn FittedMethod> {
        Box::new(zero_shot::ZeroShot::fit(Arc::clone(support_set), params))
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = UnknownMethod;

    fn from_str(name: &str) -> Result<Self, UnknownMethod> {
        Method::ALL
            .into_iter()
            .find(|method| method.name() == name)
            .ok_or_else(|| UnknownMethod(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for method in Method::ALL {
            assert_eq!(method.name().parse::<Method>(), Ok(method));
        }
        assert_eq!("TIP-X".parse::<Method>(), Err(UnknownMethod("TIP-X".into())));
    }
}
