//! The model of a classifier, which must be the one that the classifier's own embeddings were made by.
//!
//! A model is known by its name and by the digest of its files. The inference process takes the digest when
//! it loads the model, so a session asks for it once per connection.

use super::connection::{CallError, Connection};
use super::{Embedding, Stream};
use crate::pg::error::{Error, Result};

/// Name and digest of a classifier's model.
#[derive(Clone, Debug)]
pub struct OwnModel {
    classifier: String,
    pub name: String,
    /// `None` where somebody has set the model by hand: then any files are right.
    sha256: Option<Vec<u8>>,
}

impl OwnModel {
    /// An error if the classifier has no model.
    pub fn new(classifier: &str, name: Option<&str>, sha256: Option<&[u8]>) -> Result<Self> {
        let name = name.ok_or_else(|| Error::NoModel(classifier.to_owned()))?.to_owned();
        Ok(OwnModel { classifier: classifier.to_owned(), name, sha256: sha256.map(<[u8]>::to_vec) })
    }

    /// Embeds image files.
    pub fn embed_images(&self, images: &[&[u8]]) -> Result<Vec<Embedding>> {
        super::answers(Stream::of(self), images.to_vec())
    }

    /// Embeds texts.
    pub fn embed_texts(&self, texts: &[&str]) -> Result<Vec<Embedding>> {
        super::by_length(texts, |texts| super::answers(Stream::of(self), texts))
    }

    /// An error if the process at the other end has loaded other files.
    pub(super) fn check(&self, connection: &mut Connection) -> Result<(), CallError> {
        let Some(expected) = &self.sha256 else { return Ok(()) };
        match connection.digest(&self.name)? {
            Some(found) if found[..] != expected[..] => Err(CallError::Other(Error::ModelChanged {
                classifier: self.classifier.clone(),
                model: self.name.clone(),
            })),
            // Of a model that cannot be loaded the embedding says why.
            _ => Ok(()),
        }
    }
}
