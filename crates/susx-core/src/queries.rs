//! What is classified: one or two vectors per image.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, Axis, s};

use crate::linalg::aligned;

/// Unit rows to classify: N images.
#[derive(Clone, Copy, Debug)]
pub struct Queries<'a> {
    features: ArrayView2<'a, f32>,
    likeness: Option<ArrayView2<'a, f32>>,
}

impl<'a> Queries<'a> {
    /// Images by the embeddings of the model that also embeds the names, N × d.
    pub fn new(features: ArrayView2<'a, f32>) -> Self {
        Queries { features, likeness: None }
    }

    /// The same images by their likeness vectors too, N × e.
    pub fn with_likeness(self, likeness: ArrayView2<'a, f32>) -> Self {
        Queries { likeness: Some(likeness), ..self }
    }

    /// The embeddings, N × d, which are compared with names.
    pub fn features(self) -> ArrayView2<'a, f32> {
        self.features
    }

    /// The vectors that are compared with those of other images, N × e: the embeddings unless there are others.
    pub fn likeness(self) -> ArrayView2<'a, f32> {
        self.likeness.unwrap_or(self.features)
    }

    /// Whether images are compared by separate vectors.
    pub fn has_likeness(self) -> bool {
        self.likeness.is_some()
    }

    /// The embeddings alone.
    pub fn without_likeness(self) -> Self {
        Self::new(self.features)
    }

    /// The number of images, N.
    pub fn len(self) -> usize {
        self.features.nrows()
    }

    /// Whether there are no images.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The images in blocks of at most `rows`.
    pub fn chunks(self, rows: usize) -> impl Iterator<Item = Queries<'a>> {
        (0..self.len())
            .step_by(rows.max(1))
            .map(move |start| self.rows(start..(start + rows).min(self.len())))
    }

    /// Some of the images.
    pub fn rows(self, rows: Range<usize>) -> Self {
        let of = |matrix: ArrayView2<'a, f32>| matrix.slice_move(s![rows.clone(), ..]);
        Queries { features: of(self.features), likeness: self.likeness.map(of) }
    }

    /// A copy of the images that can be multiplied faster.
    pub(crate) fn aligned(self) -> OwnedQueries {
        OwnedQueries { features: aligned(self.features), likeness: self.likeness.map(aligned) }
    }

    /// A copy of some of the images.
    pub fn select(self, rows: &[usize]) -> OwnedQueries {
        let of = |matrix: ArrayView2<f32>| matrix.select(Axis(0), rows);
        OwnedQueries { features: of(self.features), likeness: self.likeness.map(of) }
    }
}

impl<'a> From<ArrayView2<'a, f32>> for Queries<'a> {
    fn from(features: ArrayView2<'a, f32>) -> Self {
        Queries::new(features)
    }
}

/// [`Queries`] with separate vectors for comparing images.
#[derive(Clone, Debug)]
pub struct OwnedQueries {
    /// N × d.
    pub features: Array2<f32>,
    /// N × e.
    pub likeness: Option<Array2<f32>>,
}

impl OwnedQueries {
    /// The images.
    pub fn view(&self) -> Queries<'_> {
        Queries {
            features: self.features.view(),
            likeness: self.likeness.as_ref().map(|likeness| likeness.view()),
        }
    }
}
