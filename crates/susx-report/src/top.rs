//! The best of many subjects.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::rc::Rc;

use crate::subject::Subject;

/// Up to this many subjects with the highest scores. Of equal scores the smaller hashes are kept, then the earlier
/// rows, so that the order in which subjects come makes no difference as long as their keys differ.
#[derive(Debug)]
pub(crate) struct Top<I> {
    most: usize,
    /// The worst first.
    heap: BinaryHeap<Entry<I>>,
}

#[derive(Debug)]
struct Entry<I> {
    score: f32,
    subject: Rc<Subject<I>>,
}

impl<I> Top<I> {
    pub fn new(most: usize) -> Self {
        Top { most, heap: BinaryHeap::new() }
    }

    /// Keeps the subject if it is one of the best so far.
    pub fn push(&mut self, score: f32, subject: &Rc<Subject<I>>) {
        self.heap.push(Entry { score, subject: Rc::clone(subject) });
        self.shrink(self.most);
    }

    /// Keeps at most this many from now on.
    pub fn shrink(&mut self, most: usize) {
        self.most = most;
        while self.heap.len() > most {
            self.heap.pop();
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Rc<Subject<I>>> {
        self.heap.iter().map(|entry| &entry.subject)
    }

    /// The subjects, best first.
    pub fn into_sorted(self) -> Vec<Rc<Subject<I>>> {
        self.heap.into_sorted_vec().into_iter().map(|entry| entry.subject).collect()
    }
}

impl<I> Ord for Entry<I> {
    /// The better entry is less.
    fn cmp(&self, other: &Self) -> Ordering {
        let tie = |entry: &Self| (entry.subject.hash, entry.subject.row);
        other.score.total_cmp(&self.score).then_with(|| tie(self).cmp(&tie(other)))
    }
}

impl<I> PartialOrd for Entry<I> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<I> PartialEq for Entry<I> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<I> Eq for Entry<I> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::Picture;

    fn best(scores: &[f32], most: usize) -> Vec<u64> {
        let mut top = Top::new(most);
        for (row, &score) in (1..).zip(scores) {
            let key = format!("{score}");
            top.push(score, &Rc::new(Subject::<()>::new(row, Some(&key), Picture::None, Vec::new())));
        }
        top.into_sorted().iter().map(|subject| subject.row).collect()
    }

    #[test]
    fn the_highest_scores_stay_in_their_order() {
        assert_eq!(best(&[0.1, 0.9, 0.5, 0.7], 2), [2, 4]);
        assert_eq!(best(&[0.1, 0.9], 5), [2, 1]);
        assert_eq!(best(&[0.1, 0.9], 0), [0u64; 0]);
    }

    #[test]
    fn of_equal_subjects_the_first_rows_stay() {
        assert_eq!(best(&[0.5; 9], 3), [1, 2, 3]);
    }
}
