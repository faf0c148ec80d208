//! One encoder of a model, and how a batch is spread over its sessions.

use std::sync::Arc;

use ndarray::{Array2, Axis, s};

use super::error::{ClipError, Result};
use super::graph::Graph;
use super::sessions::Company;
use super::shapes::{Piece, RowShape};

/// One encoder: a graph, which of its outputs to take, and what its runs look like.
pub(super) struct Tower {
    pub graph: Arc<Graph>,
    pub output: String,
    pub shape: RowShape,
}

impl Tower {
    /// Runs `rows` rows piece by piece, on as many sessions as there are, and puts the results of
    /// `run` together in order. What a piece was filled up with is dropped.
    pub fn run(
        &self,
        rows: usize,
        run: impl Fn(&Piece, Company) -> Result<Array2<f32>> + Send + Sync,
    ) -> Result<Array2<f32>> {
        let pieces = self.shape.pieces(rows);
        let alone = |piece| run(piece, Company::Alone);
        let parts = match pieces.as_slice() {
            // Sessions are waited for here rather than on rayon's threads, which others need.
            _ if self.graph.side_by_side() == 1 => pieces.iter().map(alone).collect::<Result<Vec<_>>>()?,
            [piece] => vec![alone(piece)?],
            pieces => side_by_side(pieces, &run)?,
        };
        together(rows, &pieces, parts)
    }
}

/// The results of all pieces, which are run on rayon's threads in the order in which all callers' pieces come.
///
/// This thread waits, and none of rayon's: one that waited would begin with the next caller's batch meanwhile and
/// come back only when that is done too. Both callers would be answered together, and nothing run until their next.
fn side_by_side(
    pieces: &[Piece],
    run: &(impl Fn(&Piece, Company) -> Result<Array2<f32>> + Sync),
) -> Result<Vec<Array2<f32>>> {
    let mut parts: Vec<_> = pieces.iter().map(|_| None).collect();
    rayon::in_place_scope_fifo(|scope| {
        for (piece, part) in pieces.iter().zip(&mut parts) {
            scope.spawn_fifo(move |_| *part = Some(run(piece, Company::SideBySide)));
        }
    });
    // A piece without a result has panicked, and the scope has passed that on.
    parts.into_iter().flatten().collect()
}

/// The results of all pieces, one row for each row.
fn together(rows: usize, pieces: &[Piece], mut parts: Vec<Array2<f32>>) -> Result<Array2<f32>> {
    for (piece, part) in pieces.iter().zip(&parts) {
        if part.nrows() != piece.filled {
            return Err(ClipError::inference(format!(
                "the model gave {} rows, expected {}",
                part.nrows(),
                piece.filled
            )));
        }
    }
    match (pieces, parts.len()) {
        ([piece], 1) if piece.filled == rows => Ok(parts.swap_remove(0)),
        _ => {
            let views: Vec<_> = pieces
                .iter()
                .zip(&parts)
                .map(|(piece, part)| part.slice(s![..piece.rows.len(), ..]))
                .collect();
            ndarray::concatenate(Axis(0), &views).map_err(ClipError::inference)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_put_together_in_order() {
        let shapes = [
            RowShape::Whole,
            RowShape::Fixed(4),
            RowShape::Steps { most: 4 },
            RowShape::Spread { most: 4, sessions: 3 },
        ];
        for shape in shapes {
            for n in 1..20 {
                let pieces = shape.pieces(n);
                let part = |piece: &Piece| {
                    let rows: Vec<usize> = piece.places().iter().map(|i| piece.rows.start + i).collect();
                    assert_eq!(rows.len(), piece.filled);
                    Array2::from_shape_fn((piece.filled, 1), |(i, _)| rows[i] as f32)
                };
                let parts = pieces.iter().map(part).collect();
                let expected = Array2::from_shape_fn((n, 1), |(i, _)| i as f32);
                assert_eq!(together(n, &pieces, parts), Ok(expected), "{shape:?}");
            }
        }
    }
}
