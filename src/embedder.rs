//! Embedding what goes into a classifier's table, with the classifier's own model.

use susx_server::protocol::Failure;

use crate::inference::client::{Embedding, OwnModel};
use crate::pg::catalog::classifier::{self as catalog, ClassifierError};
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::vector::Vector;

/// The model of a classifier.
#[derive(Debug)]
pub struct Embedder {
    classifier: String,
    model: OwnModel,
    /// What the table takes; `None` where its column does not say.
    dimensions: Option<usize>,
}

impl Embedder {
    /// An error if the classifier has no model.
    pub fn of(classifier: RegClass) -> Result<Self> {
        let name = classifier.name()?;
        let model = catalog::settings(classifier)?.own_model(&name)?;
        Ok(Embedder { classifier: name, model, dimensions: catalog::dimensions(classifier)? })
    }

    /// Name of the model.
    pub fn model(&self) -> &str {
        &self.model.name
    }

    /// One vector per text. `bad` makes the error of a text, by its place, that has none.
    pub fn texts(&self, texts: &[&str], bad: impl Fn(usize, Failure) -> Error) -> Result<Vec<Vector>> {
        self.vectors(self.model.embed_texts(texts)?, bad)
    }

    /// One vector per image file. `bad` makes the error of an image, by its place, that has none.
    pub fn images(&self, images: &[&[u8]], bad: impl Fn(usize, Failure) -> Error) -> Result<Vec<Vector>> {
        self.vectors(self.model.embed_images(images)?, bad)
    }

    fn vectors(&self, answers: Vec<Embedding>, bad: impl Fn(usize, Failure) -> Error) -> Result<Vec<Vector>> {
        (0..).zip(answers).map(|(place, answer)| self.vector(answer.map_err(|e| bad(place, e))?)).collect()
    }

    fn vector(&self, embedding: Vec<f32>) -> Result<Vector> {
        match self.dimensions.filter(|&expected| expected != embedding.len()) {
            None => Vector::new(embedding),
            Some(expected) => Err(ClassifierError::Dimensions {
                classifier: self.classifier.clone(),
                expected,
                found: embedding.len(),
            }
            .into()),
        }
    }
}
