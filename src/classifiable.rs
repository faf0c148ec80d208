//! What can be classified: the vectors of an image, or an image file, which the classifier's own models embed first.

use crate::fitted::Fitted;
use crate::image_vectors::ImageVectors;
use crate::pg::error::Result;
use crate::pg::image::Image;
use crate::pg::vector::Vector;

/// An argument of `classify`, `label` and `explain`.
pub trait Classifiable {
    /// Its vectors. `likeness` is the likeness vector that was given with an embedding. An error if it is an image and
    /// the classifier has no model, or if the image cannot be embedded.
    fn vectors(self, likeness: Option<Vector>, fitted: &Fitted) -> Result<ImageVectors>;
}

impl Classifiable for Vector {
    fn vectors(self, likeness: Option<Vector>, _: &Fitted) -> Result<ImageVectors> {
        Ok(ImageVectors { embedding: self, likeness })
    }
}

impl Classifiable for Image {
    fn vectors(self, _: Option<Vector>, fitted: &Fitted) -> Result<ImageVectors> {
        fitted.embed(self.file()?)
    }
}

/// The likeness vector of a function's arguments: `None` for a function that has no such argument.
macro_rules! given {
    () => {
        None
    };
    ($likeness:ident) => {
        $likeness
    };
}
pub(crate) use given;
