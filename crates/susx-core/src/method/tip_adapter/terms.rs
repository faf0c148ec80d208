//! The terms of a logit.

use ndarray::Array2;

use crate::method::{tip_x, zero_shot};

/// The terms of logits, each N × C; a logit is their sum. A term that is 0 everywhere, because of its weight or because
/// there is no support set, is left out.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Zero-shot CLIP.
    pub zero_shot: Array2<f32>,
    /// The cache of Tip-Adapter.
    pub cache: Option<Array2<f32>>,
    /// The KL term of TIP-X.
    pub kl: Option<Array2<f32>>,
}

impl Terms {
    /// The logits, N × C.
    pub fn sum(self) -> Array2<f32> {
        let mut logits = self.zero_shot;
        for term in [self.cache, self.kl].into_iter().flatten() {
            logits += &term;
        }
        logits
    }

    /// The support set's part of one logit.
    pub(in crate::method) fn support_of(&self, query: usize, category: usize) -> f32 {
        [&self.cache, &self.kl].into_iter().flatten().map(|term| term[(query, category)]).sum()
    }

    /// The terms of one logit, by name.
    pub(in crate::method) fn named(&self, query: usize, category: usize) -> Vec<(&'static str, f32)> {
        let terms = [
            (zero_shot::TERM, Some(&self.zero_shot)),
            (super::TERM, self.cache.as_ref()),
            (tip_x::TERM, self.kl.as_ref()),
        ];
        terms.into_iter().filter_map(|(name, term)| Some((name, term?[(query, category)]))).collect()
    }
}
