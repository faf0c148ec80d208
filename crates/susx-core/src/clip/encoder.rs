//! One encoder of a model: runs a batch in pieces, in parallel where the graph has several sessions.

use std::sync::Arc;

use ndarray::{Array2, Axis, s};

use super::encoder_graph::EncoderGraph;
use super::error::{ClipError, Result};
use super::pooling::Features;
use crate::onnx::{Concurrency, Piece, RowShape};

/// One encoder.
pub(super) struct Encoder {
    /// The graph, which a fused model shares between both encoders.
    pub graph: Arc<EncoderGraph>,
    /// Name of the output with the embeddings.
    pub output: String,
    /// How the values of that output become embeddings.
    pub features: Features,
    /// The batch sizes that the graph is run with.
    pub shape: RowShape,
    /// Whether a single input waits for no more than a piece of a batch: the pieces are small.
    pub has_small_pieces: bool,
}

impl Encoder {
    /// Runs a batch of `rows` rows in pieces, and concatenates the results of `run` in the order of the rows. The
    /// results of padding are dropped.
    pub fn run(
        &self,
        rows: usize,
        run: impl Fn(&Piece, Concurrency) -> Result<Array2<f32>> + Send + Sync,
    ) -> Result<Array2<f32>> {
        let pieces = self.shape.pieces(rows);
        let serial = |piece| run(piece, Concurrency::Serial);
        let parts = match pieces.as_slice() {
            [piece] if rows == 1 => vec![run(piece, Concurrency::Single)?],
            // Wait for a session on this thread, not on rayon's threads, which others need.
            _ if self.graph.onnx.concurrency() == 1 => {
                pieces.iter().map(serial).collect::<Result<Vec<_>>>()?
            }
            [piece] => vec![serial(piece)?],
            pieces => run_in_parallel(pieces, &run)?,
        };
        concatenate(rows, &pieces, parts)
    }
}

/// Runs all pieces on rayon's threads, in the order in which the pieces of all callers arrive.
///
/// The calling thread waits, not one of rayon's: while it waits, a rayon thread would start the next caller's batch and
/// return only when that is done too. Both callers would then get their answers at the same time, and the sessions
/// would idle until the next requests.
fn run_in_parallel(
    pieces: &[Piece],
    run: &(impl Fn(&Piece, Concurrency) -> Result<Array2<f32>> + Sync),
) -> Result<Vec<Array2<f32>>> {
    let mut parts: Vec<_> = pieces.iter().map(|_| None).collect();
    rayon::in_place_scope_fifo(|scope| {
        for (piece, part) in pieces.iter().zip(&mut parts) {
            scope.spawn_fifo(move |_| *part = Some(run(piece, Concurrency::Parallel)));
        }
    });
    // Every piece has a result: the scope propagates panics.
    parts.into_iter().flatten().collect()
}

/// The results of all pieces without those of padding: one row for each row of the batch.
fn concatenate(rows: usize, pieces: &[Piece], mut parts: Vec<Array2<f32>>) -> Result<Array2<f32>> {
    for (piece, part) in pieces.iter().zip(&parts) {
        if part.nrows() != piece.padded {
            return Err(ClipError::inference(format!(
                "the model returned {} rows, expected {}",
                part.nrows(),
                piece.padded
            )));
        }
    }
    match (pieces, parts.len()) {
        ([piece], 1) if piece.padded == rows => Ok(parts.swap_remove(0)),
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
    fn results_are_concatenated_in_order() {
        let shapes = [
            RowShape::Whole,
            RowShape::Fixed(4),
            RowShape::Steps { max: 4 },
            RowShape::Spread { max: 4, sessions: 3 },
        ];
        for shape in shapes {
            for n in 1..20 {
                let pieces = shape.pieces(n);
                let part = |piece: &Piece| {
                    let rows = piece.batch_rows();
                    assert_eq!(rows.len(), piece.padded);
                    Array2::from_shape_fn((piece.padded, 1), |(i, _)| rows[i] as f32)
                };
                let parts = pieces.iter().map(part).collect();
                let expected = Array2::from_shape_fn((n, 1), |(i, _)| i as f32);
                assert_eq!(concatenate(n, &pieces, parts), Ok(expected), "{shape:?}");
            }
        }
    }
}
