//! Which images a retrieval passes over, because it has taken nearly the same picture.

use std::rc::Rc;

use super::SupportSet;
use crate::duplicates::{LEAST_DIMENSIONS, THRESHOLD, cosine, is_duplicate};
use crate::interrupt;

/// A unit vector by which images are compared with each other. Candidates of several prompts share it. It is empty for an
/// image that has none, which is then like no other.
pub type ImageVector = Rc<[f32]>;

/// Compares the images of a retrieval.
#[derive(Debug)]
pub struct Distinct {
    /// From this cosine on, two images are near-duplicates.
    threshold: f32,
    /// Shorter vectors are never near-duplicates.
    least_dimensions: usize,
    labelled: Vec<ImageVector>,
}

impl Distinct {
    /// A retrieval compares images with each other and with the labelled images of the support set: by likeness vectors, or
    /// by embeddings.
    pub fn new(support_set: &SupportSet, threshold: f32, by_likeness: bool) -> Self {
        let labelled = match by_likeness {
            true if !support_set.has_likeness() => Vec::new(),
            true => support_set.labelled_rows(support_set.likeness()),
            false => support_set.labelled_rows(support_set.features()),
        };
        Distinct { threshold, least_dimensions: 1, labelled }
    }

    /// The same with a threshold of 0.96, but in fewer than 64 dimensions no image is a near-duplicate.
    pub fn automatic(support_set: &SupportSet, by_likeness: bool) -> Self {
        Distinct { least_dimensions: LEAST_DIMENSIONS, ..Distinct::new(support_set, THRESHOLD, by_likeness) }
    }

    /// Whether an image is a near-duplicate of one that is labelled.
    pub fn is_labelled(&self, vector: &[f32]) -> bool {
        interrupt::check();
        self.labelled.iter().any(|labelled| self.is_same(labelled, vector))
    }

    /// Whether two images are near-duplicates.
    pub fn is_same(&self, a: &[f32], b: &[f32]) -> bool {
        a.len() >= self.least_dimensions && a.len() == b.len() && is_duplicate(cosine(a, b), self.threshold)
    }
}
