//! The model that a classifier, or a column of a table, has all of its embeddings by.
//!
//! A model is known by its name and by the digest of its files. The inference process takes the digest when
//! it loads the model, so a session asks for it once per connection.

use std::fmt;

use super::connection::{CallError, Connection};
use super::{Embedding, Stream};
use crate::pg::error::{Error, Result};
use crate::pg::image::Image;

/// Name and digest of a model.
#[derive(Clone, Debug)]
pub struct OwnModel {
    pub owner: Owner,
    pub name: String,
    /// `None` where somebody has set the model by hand: then any files are right.
    pub sha256: Option<Vec<u8>>,
}

/// What has embeddings of its own.
#[derive(Clone, Debug)]
pub enum Owner {
    /// Its name.
    Classifier(String),
    /// Quoted names.
    Column { relation: String, column: String },
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Owner::Classifier(name) => write!(f, "classifier \"{name}\" was"),
            Owner::Column { relation, column } => {
                write!(f, "the embeddings in column {column} of {relation} were")
            }
        }
    }
}

impl OwnModel {
    /// Embeds image files.
    pub fn embed_images(&self, images: &[&[u8]]) -> Result<Vec<Embedding>> {
        super::answers(Stream::of(self), images.to_vec())
    }

    /// The same of files that are read by now.
    pub fn embed_files(&self, images: Vec<Image>) -> Result<Vec<Embedding>> {
        super::answers(Stream::of(self), images)
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
                owner: self.owner.clone(),
                model: self.name.clone(),
            })),
            // Of a model that cannot be loaded the embedding says why.
            _ => Ok(()),
        }
    }
}
