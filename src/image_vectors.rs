//! The vectors of an image.

use crate::inference::client;
use crate::pg::vector::Vector;

/// What is classified: an image by its embedding and, for classifiers that compare images by vectors of another model, by
/// its likeness vector.
#[derive(Clone, Debug)]
pub struct ImageVectors {
    pub embedding: Vector,
    pub likeness: Option<Vector>,
}

impl From<client::ImageVectors> for ImageVectors {
    fn from(client::ImageVectors { embedding, likeness }: client::ImageVectors) -> Self {
        ImageVectors { embedding: Vector(embedding), likeness: likeness.map(Vector) }
    }
}

impl From<Vector> for ImageVectors {
    fn from(embedding: Vector) -> Self {
        ImageVectors { embedding, likeness: None }
    }
}
