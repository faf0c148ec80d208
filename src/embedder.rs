//! Embeds the texts and images of a classifier's table with the classifier's model.

use susx_server::protocol::Failure;

use crate::inference::client::{self, Embedding, Stream};
use crate::pg::catalog::classifier::{self as catalog, ClassifierError};
use crate::pg::embedding_model::EmbeddingModel;
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::vector::Vector;

/// A classifier's model, which makes the vectors of its table.
#[derive(Debug)]
pub struct Embedder {
    classifier: String,
    model: EmbeddingModel,
    /// Dimensions of the table's vectors; `None` if its column declares none.
    dimensions: Option<usize>,
}

impl Embedder {
    /// The embedder of a classifier; an error if the classifier has no model.
    pub fn of(classifier: RegClass) -> Result<Self> {
        let name = classifier.name()?;
        let model = catalog::settings(classifier)?.embedding_model(&name)?;
        Ok(Embedder { classifier: name, model, dimensions: catalog::dimensions(classifier)? })
    }

    /// Name of the model.
    pub fn model(&self) -> &str {
        &self.model.name
    }

    /// One vector per text. `error` makes the error of a text, counted from 0, that cannot be embedded.
    pub fn texts(&self, texts: &[&str], error: impl Fn(usize, Failure) -> Error) -> Result<Vec<Vector>> {
        self.vectors(client::embed_texts(Stream::of(&self.model), texts)?, error)
    }

    /// One vector per image file. `error` makes the error of an image, counted from 0, that cannot be embedded.
    pub fn images(&self, images: &[&[u8]], error: impl Fn(usize, Failure) -> Error) -> Result<Vec<Vector>> {
        self.vectors(client::embed_images(Stream::of(&self.model), images.to_vec())?, error)
    }

    fn vectors(
        &self,
        answers: Vec<Embedding>,
        error: impl Fn(usize, Failure) -> Error,
    ) -> Result<Vec<Vector>> {
        (0..).zip(answers).map(|(index, answer)| self.vector(answer.map_err(|e| error(index, e))?)).collect()
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
