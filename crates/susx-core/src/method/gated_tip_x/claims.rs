//! Names whose support images other names claim.

use ndarray::{Array2, ArrayViewMut1};

use super::support::Worth;
use crate::interrupt;

/// Most that a logit loses.
const PENALTY: f32 = 5.0;
/// Smallest distance of the two cosines between which a query becomes known.
const MIN_WIDTH: f32 = 1e-3;

/// What the logits of claimed names lose: `5 h x_c`.
#[derive(Clone, Debug)]
pub(super) struct Claims {
    /// `5 x_c`, C.
    penalty: Vec<f32>,
    /// The largest cosine to a support row up to which a query is unknown, and from there to where it is known.
    low: f32,
    width: f32,
}

impl Claims {
    pub fn of(worth: &Worth) -> Self {
        let (low, high) = worth.known;
        Claims {
            penalty: worth.claimed.iter().map(|&claimed| PENALTY * claimed as f32).collect(),
            low: low as f32,
            width: ((high - low) as f32).max(MIN_WIDTH),
        }
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.penalty.iter().all(|&penalty| penalty == 0.0)
    }

    /// What the logits of queries lose (n × C), as negative numbers, from the largest cosine of each to a support row
    /// (n).
    ///
    /// A claimed name is one of which the pool shows little, and the support set knows it only as far as the pool goes.
    /// An image that is like none of the support images may be of any name, so for it nothing is lost.
    pub fn terms(&self, nearest: &[f32]) -> Array2<f32> {
        let mut terms = Array2::zeros((nearest.len(), self.penalty.len()));
        for (mut row, &nearest) in terms.rows_mut().into_iter().zip(nearest) {
            interrupt::check();
            self.fill(row.view_mut(), self.familiar(nearest));
        }
        terms
    }

    fn fill(&self, row: ArrayViewMut1<f32>, familiar: f32) {
        for (term, penalty) in row.into_iter().zip(&self.penalty) {
            *term = -familiar * penalty;
        }
    }

    /// `h`: how far a query is like one of the support rows, 0 to 1.
    fn familiar(&self, nearest: f32) -> f32 {
        ((nearest - self.low) / self.width).clamp(0.0, 1.0)
    }

    /// How far an error of a cosine can move two logits towards each other.
    pub fn rounding(&self, cosine: f32) -> f32 {
        self.penalty.iter().fold(0.0f32, |most, &penalty| most.max(penalty)) * cosine / self.width
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        self.penalty.len() * size_of::<f32>()
    }
}
