//! Embeds the texts and images of a classifier's table with the classifier's models.

use susx_server::protocol::{Cut, Failure, TextEmbedding};

use crate::cut_texts;
use crate::image_stream::{self, ImageStream};
use crate::image_vectors::ImageVectors;
use crate::inference::client::{self, OfText, Stream};
use crate::pg::catalog::classifier::{self as catalog, Settings};
use crate::pg::embedding_model::EmbeddingModel;
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::vector::Vector;

/// A classifier's models, which make the vectors of its table.
#[derive(Debug)]
pub struct Embedder {
    classifier: String,
    model: EmbeddingModel,
    /// Dimensions of the table's embeddings; `None` if its column declares none.
    dimensions: Option<usize>,
    /// The model of the images' likeness vectors, if the classifier has one.
    likeness: Option<EmbeddingModel>,
    /// Dimensions of the likeness vectors that images have; `None` if that is not known.
    likeness_dimensions: Option<usize>,
}

impl Embedder {
    /// The embedder of a classifier; an error if the classifier has no model.
    pub fn of(classifier: RegClass) -> Result<Self> {
        let name = classifier.name()?;
        let settings = catalog::settings(classifier)?;
        let model = settings.embedding_model(&name)?;
        let likeness = settings.likeness_model(&name);
        let dimensions = catalog::dimensions(classifier)?;
        Ok(Embedder { classifier: name, model, dimensions, likeness, likeness_dimensions: None })
    }

    /// The embedder of images that are to be added to the classifier's table: the table gets a column for their likeness
    /// vectors if it needs one, and they must have the dimensions of those in it.
    pub fn of_new_images(classifier: RegClass) -> Result<Self> {
        let mut embedder = Embedder::of(classifier)?;
        if embedder.likeness.is_some() {
            catalog::allow_likeness(classifier)?;
            embedder.likeness_dimensions = catalog::likeness_dimensions(classifier)?;
        }
        Ok(embedder)
    }

    /// The same embedder for images that get no likeness vectors.
    pub fn without_likeness(self) -> Self {
        Embedder { likeness: None, ..self }
    }

    /// Whether images get likeness vectors.
    pub fn has_likeness(&self) -> bool {
        self.likeness.is_some()
    }

    /// Whether a classifier with these settings still has these models.
    pub fn is_of(&self, settings: &Settings) -> bool {
        let likeness = self.likeness.as_ref().map(|likeness| &likeness.name);
        settings.model.as_ref() == Some(&self.model.name) && settings.likeness_model.as_ref() == likeness
    }

    /// One vector per text, and what the model has read of a text that is longer than its context. `error` makes the
    /// error of a text, counted from 0, that cannot be embedded.
    pub fn texts(
        &self,
        texts: &[&str],
        error: impl Fn(usize, Failure) -> Error,
    ) -> Result<(Vec<Vector>, Vec<Option<Cut>>)> {
        let answers = client::embed_texts(Stream::of(&self.model), texts)?;
        let checked = |(index, answer): (usize, OfText)| {
            let TextEmbedding { vector, cut } = answer.map_err(|failure| error(index, failure))?;
            let vectors = ImageVectors::from(Vector::new(vector)?);
            self.check(&vectors)?;
            Ok((vectors.embedding, cut))
        };
        answers.into_iter().enumerate().map(checked).collect()
    }

    /// The same, with one WARNING about all texts that are longer than the model's context. `name` names one of them.
    pub fn named_texts(&self, texts: &[&str], name: impl Fn(usize) -> String) -> Result<Vec<Vector>> {
        let error = |index, failure| Error::from(failure).within(name(index));
        let (vectors, cuts) = self.texts(texts, error)?;
        cut_texts::warn(&cuts, name);
        Ok(vectors)
    }

    /// The vectors of every image file. `error` makes the error of an image, counted from 0, that cannot be embedded.
    pub fn images(
        &self,
        images: &[&[u8]],
        error: impl Fn(usize, Failure) -> Error,
    ) -> Result<Vec<ImageVectors>> {
        let answers = ImageStream::of(&self.model, self.likeness.as_ref()).run(images.to_vec())?;
        let checked = |(index, answer): (usize, image_stream::Answer)| {
            let vectors = answer.map_err(|failure| error(index, failure))?;
            self.check(&vectors)?;
            Ok(vectors)
        };
        answers.into_iter().enumerate().map(checked).collect()
    }

    /// An error if the vectors have other dimensions than those in the table.
    fn check(&self, vectors: &ImageVectors) -> Result<()> {
        Ok(vectors.check(&self.classifier, self.dimensions, self.likeness_dimensions)?)
    }
}
