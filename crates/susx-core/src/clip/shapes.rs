//! How the rows of a batch are spread over runs of a graph.
//!
//! One idea for four cases: a graph that was exported for one batch size, a provider that prepares
//! itself anew for every size it has not seen, a CPU on which several sessions share a batch, and the
//! plain one, in which a batch is one run.

use std::ops::Range;

use super::provider::Candidate;

/// Which numbers of rows a graph is run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowShape {
    /// Always this many.
    Fixed(usize),
    /// A power of two, or the largest number itself.
    Steps {
        /// The largest number.
        most: usize,
    },
    /// Any number: all rows at once.
    Whole,
    /// Any number, in pieces that sessions work on side by side.
    Spread {
        /// Rows of a piece.
        most: usize,
        /// Pieces that can be worked on at once; fewer rows than `most` are spread over them too.
        sessions: usize,
    },
}

/// Rows that are run together, by their numbers in the batch, and how many the run is filled up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub rows: Range<usize>,
    pub filled: usize,
}

impl Piece {
    /// The places in the piece, and then the first one again until it is full.
    pub fn places(&self) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.rows.len()).collect();
        places.resize(self.filled, 0);
        places
    }
}

impl RowShape {
    /// The shape for a graph on a provider.
    ///
    /// * `exported`: the number of rows that the graph was exported for, if it was for one.
    /// * `batch_size`: the most rows that a caller wants in one run; 0 if it did not say.
    /// * `sessions`: how many of the graph can be run at once.
    /// * `piece`: rows with which a session runs well on one core.
    pub fn new(
        candidate: Candidate,
        exported: Option<usize>,
        batch_size: usize,
        sessions: usize,
        piece: usize,
    ) -> RowShape {
        match (exported, candidate) {
            (Some(rows), _) => RowShape::Fixed(rows),
            (None, _) if sessions > 1 => RowShape::Spread { most: piece, sessions },
            (None, Candidate::Cpu) => RowShape::Whole,
            (None, _) if batch_size == 0 => RowShape::Whole,
            // An engine is built for every shape, which takes minutes: there is to be one.
            (None, Candidate::TensorRt) => RowShape::Fixed(batch_size),
            // Kernels are chosen and memory is laid out for every shape: there are to be few.
            (None, _) => RowShape::Steps { most: batch_size },
        }
    }

    /// Cuts a batch of `rows` rows.
    pub fn pieces(self, rows: usize) -> Vec<Piece> {
        match self {
            RowShape::Whole => vec![Piece { rows: 0..rows, filled: rows }],
            RowShape::Fixed(size) => cut(rows, size, |_| size),
            RowShape::Steps { most } => cut(rows, most, |rows| rows.next_power_of_two().min(most)),
            RowShape::Spread { most, sessions } => {
                let count = rows.div_ceil(most.max(1)).max(sessions.min(rows)).max(1);
                // As equal as can be, so that the sessions end together.
                let begin = |i: usize| i * rows / count;
                (0..count)
                    .map(|i| Piece { rows: begin(i)..begin(i + 1), filled: begin(i + 1) - begin(i) })
                    .collect()
            }
        }
    }
}

fn cut(rows: usize, size: usize, filled: impl Fn(usize) -> usize) -> Vec<Piece> {
    let size = size.max(1);
    (0..rows)
        .step_by(size)
        .map(|begin| {
            let end = (begin + size).min(rows);
            Piece { rows: begin..end, filled: filled(end - begin).max(end - begin) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(shape: RowShape, rows: usize) -> Vec<(usize, usize)> {
        let pieces = shape.pieces(rows);
        // Every row is in one piece, in order.
        let all: Vec<usize> = pieces.iter().flat_map(|piece| piece.rows.clone()).collect();
        assert_eq!(all, (0..rows).collect::<Vec<_>>(), "{shape:?}");
        pieces.into_iter().map(|piece| (piece.rows.len(), piece.filled)).collect()
    }

    #[test]
    fn a_gpu_sees_few_shapes() {
        let cuda = RowShape::new(Candidate::Cuda, None, 24, 1, 4);
        let seen: std::collections::BTreeSet<usize> =
            (1..=60).flat_map(|rows| filled(cuda, rows)).map(|(_, filled)| filled).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2, 4, 8, 16, 24]);
        assert_eq!(filled(cuda, 27), [(24, 24), (3, 4)]);
        let tensorrt = RowShape::new(Candidate::TensorRt, None, 24, 1, 4);
        assert_eq!(filled(tensorrt, 27), [(24, 24), (3, 24)]);
        assert_eq!(filled(tensorrt, 1), [(1, 24)]);
        // Whoever does not say how large the batches get has to live with theirs.
        assert_eq!(RowShape::new(Candidate::TensorRt, None, 0, 1, 4), RowShape::Whole);
    }

    #[test]
    fn what_the_graph_was_exported_for_comes_first() {
        for candidate in [Candidate::Cpu, Candidate::Cuda, Candidate::TensorRt] {
            let shape = RowShape::new(candidate, Some(2), 32, 3, 4);
            assert_eq!(filled(shape, 5), [(2, 2), (2, 2), (1, 2)]);
        }
    }

    #[test]
    fn nothing_is_filled_up_on_the_cpu() {
        assert_eq!(filled(RowShape::new(Candidate::Cpu, None, 32, 1, 4), 27), [(27, 27)]);
        let two = RowShape::new(Candidate::Cpu, None, 32, 2, 4);
        assert_eq!(filled(two, 1), [(1, 1)]);
        assert_eq!(filled(two, 3), [(1, 1), (2, 2)]);
        assert_eq!(filled(two, 8), [(4, 4), (4, 4)]);
        assert_eq!(filled(two, 9), [(3, 3), (3, 3), (3, 3)]);
        for rows in 1..70 {
            let pieces = filled(two, rows);
            assert!(pieces.iter().all(|&(rows, filled)| rows == filled && (1..=4).contains(&rows)));
        }
    }
}
