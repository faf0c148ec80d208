//! How the rows of a batch are divided into runs of a graph.
//!
//! There are five cases: a graph that was exported for one batch size, a provider that prepares itself for every new
//! batch size, a CPU on which a batch is run in pieces, a graph of which a row's result depends on the others, and the
//! simple case, in which a batch is one run.

use std::ops::Range;

use super::provider::Candidate;

/// The batch sizes that a graph is run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowShape {
    /// Always this many rows.
    Fixed(usize),
    /// A power of two, or `max` itself.
    Steps {
        /// The largest number of rows.
        max: usize,
    },
    /// All rows of the batch in one run.
    Whole,
    /// Any number of rows, in pieces that sessions run in parallel, or one session in turn.
    Spread {
        /// The most rows of a piece.
        max: usize,
        /// Number of sessions; a batch of fewer than `max` rows is divided among them too.
        sessions: usize,
    },
    /// One row of the batch in each run, for graphs of which a row's result depends on the others.
    Alone {
        /// Rows of the run, all copies of the one.
        copies: usize,
    },
}

/// The rows of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The rows' numbers in the batch.
    pub rows: Range<usize>,
    /// Rows of the run, padding included.
    pub padded: usize,
}

impl Piece {
    /// For each row of the run its number in the batch; the first row is repeated as padding.
    pub fn batch_rows(&self) -> Vec<usize> {
        let mut rows: Vec<usize> = self.rows.clone().collect();
        rows.resize(self.padded, self.rows.start);
        rows
    }
}

impl RowShape {
    /// The batch sizes for a graph on a provider.
    ///
    /// * `exported`: the batch size that the graph was exported for; `None` if it takes any.
    /// * `batch_size`: the most rows that a caller wants in one run; 0 if unknown.
    pub fn new(candidate: Candidate, exported: Option<usize>, batch_size: usize) -> RowShape {
        match (exported, candidate) {
            (Some(rows), _) => RowShape::Fixed(rows),
            (None, Candidate::Cpu) => RowShape::Whole,
            (None, _) if batch_size == 0 => RowShape::Whole,
            // TensorRT builds an engine for every shape, which takes minutes: use one shape only.
            (None, Candidate::TensorRt) => RowShape::Fixed(batch_size),
            // Other providers choose kernels and plan memory for every shape: use few shapes.
            (None, _) => RowShape::Steps { max: batch_size },
        }
    }

    /// The batch sizes for a graph on the CPU, whose batches are run in pieces; `exported` as in [`new`](Self::new).
    ///
    /// * `piece`: the most rows of a piece.
    /// * `sessions`: the number of runs of the graph in parallel.
    pub fn pieces_on_cpu(exported: Option<usize>, piece: usize, sessions: usize) -> RowShape {
        match exported {
            Some(rows) => RowShape::Fixed(rows),
            None => RowShape::Spread { max: piece, sessions },
        }
    }

    /// The batch sizes for a graph of which a row's result depends on the others; `exported` as in [`new`](Self::new).
    pub fn alone(exported: Option<usize>) -> RowShape {
        RowShape::Alone { copies: exported.unwrap_or(1) }
    }

    /// Divides a batch of `rows` rows.
    pub fn pieces(self, rows: usize) -> Vec<Piece> {
        match self {
            RowShape::Alone { copies } => {
                (0..rows).map(|row| Piece { rows: row..row + 1, padded: copies.max(1) }).collect()
            }
            RowShape::Whole => vec![Piece { rows: 0..rows, padded: rows }],
            RowShape::Fixed(size) => divide(rows, size, |_| size),
            RowShape::Steps { max } => divide(rows, max, |rows| rows.next_power_of_two().min(max)),
            RowShape::Spread { max, sessions } => {
                let count = rows.div_ceil(max.max(1)).max(sessions.min(rows)).max(1);
                // Of nearly equal sizes, so that the sessions end at the same time.
                let begin = |i: usize| i * rows / count;
                (0..count)
                    .map(|i| Piece { rows: begin(i)..begin(i + 1), padded: begin(i + 1) - begin(i) })
                    .collect()
            }
        }
    }
}

fn divide(rows: usize, size: usize, padded: impl Fn(usize) -> usize) -> Vec<Piece> {
    let size = size.max(1);
    (0..rows)
        .step_by(size)
        .map(|begin| {
            let end = (begin + size).min(rows);
            Piece { rows: begin..end, padded: padded(end - begin).max(end - begin) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(shape: RowShape, rows: usize) -> Vec<(usize, usize)> {
        let pieces = shape.pieces(rows);
        // Every row is in one piece, in order.
        let all: Vec<usize> = pieces.iter().flat_map(|piece| piece.rows.clone()).collect();
        assert_eq!(all, (0..rows).collect::<Vec<_>>(), "{shape:?}");
        pieces.into_iter().map(|piece| (piece.rows.len(), piece.padded)).collect()
    }

    #[test]
    fn a_gpu_sees_few_shapes() {
        let cuda = RowShape::new(Candidate::Cuda, None, 24);
        let seen: std::collections::BTreeSet<usize> =
            (1..=60).flat_map(|rows| sizes(cuda, rows)).map(|(_, padded)| padded).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2, 4, 8, 16, 24]);
        assert_eq!(sizes(cuda, 27), [(24, 24), (3, 4)]);
        let tensorrt = RowShape::new(Candidate::TensorRt, None, 24);
        assert_eq!(sizes(tensorrt, 27), [(24, 24), (3, 24)]);
        assert_eq!(sizes(tensorrt, 1), [(1, 24)]);
        // Without a known batch size nothing is padded.
        assert_eq!(RowShape::new(Candidate::TensorRt, None, 0), RowShape::Whole);
    }

    #[test]
    fn the_exported_batch_size_has_priority() {
        let shapes = [Candidate::Cpu, Candidate::Cuda, Candidate::TensorRt]
            .map(|candidate| RowShape::new(candidate, Some(2), 32));
        for shape in shapes.into_iter().chain([RowShape::pieces_on_cpu(Some(2), 4, 3)]) {
            assert_eq!(sizes(shape, 5), [(2, 2), (2, 2), (1, 2)]);
        }
    }

    #[test]
    fn a_row_that_depends_on_others_has_none() {
        assert_eq!(sizes(RowShape::alone(None), 3), [(1, 1); 3]);
        assert_eq!(sizes(RowShape::alone(Some(2)), 3), [(1, 2); 3]);
        assert_eq!(RowShape::alone(Some(2)).pieces(2)[1].batch_rows(), [1, 1]);
    }

    #[test]
    fn nothing_is_padded_on_the_cpu() {
        assert_eq!(sizes(RowShape::new(Candidate::Cpu, None, 32), 27), [(27, 27)]);
        let one = RowShape::pieces_on_cpu(None, 8, 1);
        assert_eq!(sizes(one, 32), [(8, 8); 4]);
        assert_eq!(sizes(one, 9), [(4, 4), (5, 5)]);
        let two = RowShape::pieces_on_cpu(None, 4, 2);
        assert_eq!(sizes(two, 1), [(1, 1)]);
        assert_eq!(sizes(two, 3), [(1, 1), (2, 2)]);
        assert_eq!(sizes(two, 8), [(4, 4), (4, 4)]);
        assert_eq!(sizes(two, 9), [(3, 3), (3, 3), (3, 3)]);
        for rows in 1..70 {
            let pieces = sizes(two, rows);
            assert!(pieces.iter().all(|&(rows, padded)| rows == padded && (1..=4).contains(&rows)));
        }
    }
}
