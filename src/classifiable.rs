//! What can be classified: an embedding, or an image file, which the classifier's own model embeds first.

use crate::fitted::Fitted;
use crate::pg::error::Result;
use crate::pg::image::Image;
use crate::pg::vector::Vector;

/// An argument of `classify`, `label` and `explain`.
pub trait Classifiable {
    /// Its embedding. An error if it is an image and the classifier has no model, or if the image cannot be embedded.
    fn embedding(self, fitted: &Fitted) -> Result<Vector>;
}

impl Classifiable for Vector {
    fn embedding(self, _: &Fitted) -> Result<Vector> {
        Ok(self)
    }
}

impl Classifiable for Image {
    fn embedding(self, fitted: &Fitted) -> Result<Vector> {
        fitted.embed(self.file()?)
    }
}
