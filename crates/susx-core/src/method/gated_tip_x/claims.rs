//! Names whose support images other names claim.

use ndarray::Array2;

use super::support::Worth;
use crate::interrupt;
use crate::sus::SupportSet;

/// Most that a logit loses.
const PENALTY: f32 = 5.0;
/// Smallest distance of the two cosines between which a query becomes known.
const MIN_WIDTH: f32 = 1e-3;

/// What the logits of claimed names lose: `5 h x_c`.
#[derive(Clone, Debug)]
pub(in crate::method) struct Claims {
    /// `5 x_c`, C.
    penalty: Vec<f32>,
    /// The largest cosine to a support row up to which a query is unknown, and from there to where it is known.
    low: f32,
    width: f32,
    /// Whether all support rows are labelled: then no query counts as known.
    is_labelled: bool,
}

impl Claims {
    pub fn new(support_set: &SupportSet, worth: &Worth) -> Self {
        let (low, high) = worth.known;
        // Labels are not claims: no query counts as known, and no logit loses anything.
        let is_labelled = support_set.labelled().iter().all(|&labelled| labelled);
        let most = if is_labelled { 0.0 } else { PENALTY };
        Claims {
            penalty: worth.claimed.iter().map(|&claimed| most * claimed as f32).collect(),
            low: low as f32,
            width: ((high - low) as f32).max(MIN_WIDTH),
            is_labelled,
        }
    }

    /// Claims that take another share.
    pub fn times(mut self, share: f32) -> Self {
        self.penalty.iter_mut().for_each(|penalty| *penalty *= share);
        self
    }

    /// `x_c`: how far a category's support rows are claimed by others, 0 to 1.
    pub fn of(&self, category: usize) -> f32 {
        self.penalty[category] / PENALTY
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.penalty.iter().all(|&penalty| penalty == 0.0)
    }

    /// What the logits of queries lose (n × C), as negative numbers, from how like a support row each is (`h`, n).
    ///
    /// The pool shows little of a claimed name, and the support set knows only what the pool shows. An image that is
    /// unlike all support images may be of any name, so its logits lose nothing.
    pub fn terms(&self, familiar: &[f32]) -> Array2<f32> {
        let mut terms = Array2::zeros((familiar.len(), self.penalty.len()));
        for (mut row, familiar) in terms.rows_mut().into_iter().zip(familiar) {
            interrupt::check();
            for (c, term) in row.iter_mut().enumerate() {
                *term = self.term(c, *familiar);
            }
        }
        terms
    }

    /// What the logit of one category loses.
    pub fn term(&self, category: usize, familiar: f32) -> f32 {
        -familiar * self.penalty[category]
    }

    /// `h`: how far a query is like one of the support rows, 0 to 1; 0 if all of them are labelled.
    pub fn familiar(&self, nearest: f32) -> f32 {
        if self.is_labelled {
            return 0.0;
        }
        ((nearest - self.low) / self.width).clamp(0.0, 1.0)
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        self.penalty.len() * size_of::<f32>()
    }
}
