//! The vectors of an image.

use crate::inference::client;
use crate::pg::catalog::classifier::ClassifierError;
use crate::pg::vector::Vector;

/// What is classified: an image by its embedding and, for classifiers that compare images by vectors of another model, by
/// its likeness vector.
#[derive(Clone, Debug)]
pub struct ImageVectors {
    pub embedding: Vector,
    pub likeness: Option<Vector>,
}

impl ImageVectors {
    /// An error if the vectors have other dimensions than those of the classifier of that name. Those that are `None` are not
    /// checked.
    pub fn check(
        &self,
        classifier: &str,
        dimensions: Option<usize>,
        likeness_dimensions: Option<usize>,
    ) -> Result<(), ClassifierError> {
        let classifier = || classifier.to_owned();
        let found = self.embedding.0.len();
        if let Some(expected) = dimensions.filter(|&expected| expected != found) {
            return Err(ClassifierError::Dimensions { classifier: classifier(), expected, found });
        }
        match (likeness_dimensions, self.likeness.as_ref().map(|likeness| likeness.0.len())) {
            (Some(expected), Some(found)) if expected != found => {
                Err(ClassifierError::LikenessDimensions { classifier: classifier(), expected, found })
            }
            _ => Ok(()),
        }
    }
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
