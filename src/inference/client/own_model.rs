//! The model that a classifier, or a column of a table, has all of its embeddings by.
//!
//! A model is known by its name and by the digest of its files. The inference process takes the digest when
//! it loads the model, so a session asks for it once per connection.

use std::fmt;

use pgrx::PgSqlErrorCode;

use super::connection::{CallError, Connection};
use super::{Embedding, Stream};
use crate::pg::error::{Result, SqlError};
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

/// The inference process has other files of the model than those that the embeddings were made with.
#[derive(Debug, thiserror::Error)]
#[error("the files of model \"{model}\" are not those that {owner} made with")]
struct ModelChanged {
    owner: Owner,
    model: String,
}

impl SqlError for ModelChanged {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
    }

    fn hint(&self) -> Option<String> {
        let model = &self.model;
        Some(match &self.owner {
            Owner::Column { relation, column } => format!(
                "Put the old files back and restart PostgreSQL. Or embed anew: UPDATE {relation} SET {column} = NULL, \
                 and call again."
            ),
            Owner::Classifier(classifier) => format!(
                "Put the old files back and restart PostgreSQL. Or embed anew: the classifier's rows, with \
                 susx.alter_classifier('{classifier}', model => '{model}') and UPDATE {classifier} SET embedding = NULL; \
                 its images' tables; and what susx.build_support_set retrieved from them."
            ),
        })
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
            Some(found) if found[..] != expected[..] => {
                let changed = ModelChanged { owner: self.owner.clone(), model: self.name.clone() };
                Err(CallError::Other(changed.into()))
            }
            // Of a model that cannot be loaded the embedding says why.
            _ => Ok(()),
        }
    }
}
