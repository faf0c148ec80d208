//! The most telling rows for one reason.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::rc::Rc;

use susx_core::sus::ImageVector;

use crate::pg::any::AnyValue;

/// A row that may come into the queue.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The number of the row in the query.
    pub row: u64,
    pub key: Option<AnyValue>,
    /// The row's label or, without one, the classifier's answer; `None` if it gives none.
    pub category: Option<Rc<str>>,
    /// The probability of that category; if there is none, the probability that the row is of any category.
    pub probability: f32,
    pub suggestion: Option<Rc<str>>,
    /// How telling the row is, 0 to 1.
    pub priority: f32,
    /// The key of another row that the reason is about.
    pub alike: Option<AnyValue>,
    /// The unit vector by which images are compared.
    pub vector: ImageVector,
}

/// At most this many candidates, those with the highest priority. Of equal ones, those that came first.
#[derive(Debug)]
pub struct Best {
    most: usize,
    /// The top is the next to drop.
    heap: BinaryHeap<Ranked>,
}

#[derive(Debug)]
struct Ranked(Candidate);

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.0, &other.0);
        b.priority.total_cmp(&a.priority).then(a.row.cmp(&b.row))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ranked {}

impl Best {
    pub fn new(most: usize) -> Self {
        Best { most, heap: BinaryHeap::new() }
    }

    /// Whether a row of this priority, which comes after all others, would be kept.
    pub fn has_room(&self, priority: f32) -> bool {
        self.heap.len() < self.most || self.heap.peek().is_some_and(|worst| worst.0.priority < priority)
    }

    pub fn push(&mut self, candidate: Candidate) {
        self.heap.push(Ranked(candidate));
        if self.heap.len() > self.most {
            self.heap.pop();
        }
    }

    /// The most telling first.
    pub fn into_sorted(self) -> Vec<Candidate> {
        self.heap.into_sorted_vec().into_iter().map(|ranked| ranked.0).collect()
    }
}
