//! A support set as bytes, which other processes can use as they are.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::numbers::{Matrix, Numbers, SharedBytes};
use super::support_set::SupportSet;
use crate::interrupt;

/// The numbers of each part begin at a multiple of this, so that products read whole cache lines.
const ALIGNMENT: usize = 64;
/// Bytes that are written without a check for interrupts.
const PIECE: usize = 1 << 22;

/// All of a support set but its vectors and the ids of its images.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outline<'a> {
    categories: Vec<String>,
    /// Of each image, 1 if it is labelled, else 0.
    labelled: &'a [u8],
    offsets: Vec<usize>,
    /// The shapes of the zeroshot weights, the negatives, the features and, if there are any, the likeness vectors.
    shapes: Vec<(usize, usize)>,
}

impl SupportSet {
    pub(crate) fn outline(&self) -> Outline<'_> {
        Outline {
            categories: self.categories.clone(),
            labelled: bytemuck::cast_slice(&self.labelled),
            offsets: self.offsets.clone(),
            shapes: self.matrices().map(Matrix::dim).collect(),
        }
    }

    /// Writes the vectors and the ids of the images, each [padded].
    pub(crate) fn write_numbers(&self, out: &mut impl Write) -> io::Result<()> {
        for matrix in self.matrices() {
            write_padded(bytemuck::cast_slice(matrix.numbers()), out)?;
        }
        write_padded(bytemuck::cast_slice(&self.ids), out)
    }
}

impl Outline<'_> {
    /// The support set with the numbers that [`SupportSet::write_numbers`] has written, which stay where they are. `None`
    /// if they are not those of this outline.
    pub fn with_numbers(self, numbers: &SharedBytes) -> Option<SupportSet> {
        let Outline { categories, labelled, offsets, shapes } = self;
        let (&[weights, negatives, features], likeness) = shapes.split_first_chunk()?;
        let rows = labelled.len();
        let is_whole = categories.len() == weights.0
            && offsets.len() == weights.0 + 1
            && offsets.first() == Some(&0)
            && offsets.last() == Some(&rows)
            && offsets.is_sorted()
            && [negatives.1, features.1] == [weights.1; 2]
            && likeness.iter().chain([&features]).all(|shape| shape.0 == rows);
        let mut rest = is_whole.then(|| numbers.clone())?;
        let mut matrix = |shape: (usize, usize)| {
            let matrix = Matrix::shared(&rest, shape)?;
            let end = padded(shape.0 * shape.1 * size_of::<f32>());
            rest = rest.slice(end..rest.len())?;
            Some(matrix)
        };
        Some(SupportSet {
            categories,
            zeroshot_weights: matrix(weights)?,
            negatives: matrix(negatives)?,
            features: matrix(features)?,
            likeness: match likeness.first() {
                Some(&shape) => Some(matrix(shape)?),
                None => None,
            },
            ids: Numbers::shared(&rest, rows)?,
            labelled: labelled.iter().map(|&labelled| labelled != 0).collect(),
            offsets,
        })
    }
}

/// The length of some bytes with their padding.
pub(crate) fn padded(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}

/// Writes bytes, and zeros up to a multiple of the alignment.
pub(crate) fn write_padded(bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
    for piece in bytes.chunks(PIECE) {
        interrupt::check();
        out.write_all(piece)?;
    }
    out.write_all(&[0; ALIGNMENT][..padded(bytes.len()) - bytes.len()])
}
