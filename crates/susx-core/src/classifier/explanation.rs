//! Why an image has its label.

use crate::method::gated_tip_x::GateReading;

/// One category of an explanation.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Index of the category.
    pub category: usize,
    /// The terms of the category's logit, by name. Each method has its own.
    pub terms: Vec<(&'static str, f32)>,
    /// Reliability of the category's support, 0 to 1; `None` for a method that does not estimate it.
    pub reliability: Option<f32>,
    /// How much the support set counts for the image; `None` for a method without a gate.
    pub gate: Option<GateReading>,
    /// The category's logit, the sum of the terms.
    pub total: f32,
    /// The support rows that contribute most to the logit, largest contribution first.
    pub support: Vec<Contribution>,
}

impl Explanation {
    /// The value of a term; 0 if the method does not have it.
    pub fn term(&self, name: &str) -> f32 {
        self.terms.iter().find(|(own, _)| *own == name).map_or(0.0, |&(_, value)| value)
    }
}

/// What one support row adds to a logit. The contributions of all rows of a category add up to its logit without
/// the zero-shot term.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contribution {
    /// Index of the support row.
    pub row: usize,
    /// Cosine of the image and the support image.
    pub affinity: f32,
    /// Part of the logit.
    pub contribution: f32,
}

impl Contribution {
    /// Keeps the `count` largest, largest first; equal ones in the order of the rows.
    pub(crate) fn keep_largest(contributions: &mut Vec<Contribution>, count: usize) {
        let largest_first = |a: &Contribution, b: &Contribution| {
            b.contribution.total_cmp(&a.contribution).then(a.row.cmp(&b.row))
        };
        if (1..contributions.len()).contains(&count) {
            contributions.select_nth_unstable_by(count - 1, largest_first);
        }
        contributions.truncate(count);
        contributions.sort_unstable_by(largest_first);
    }
}
