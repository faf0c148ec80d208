//! The model that a classifier, or a column of embeddings, is bound to.
//!
//! Embeddings of different models cannot be compared, so all embeddings of one owner come from one model. A model is
//! identified by its name and by the SHA-256 digest of its files.

use std::fmt;

/// Name and digest of the model that makes the embeddings of an owner.
#[derive(Clone, Debug)]
pub struct EmbeddingModel {
    pub owner: EmbeddingOwner,
    pub name: String,
    /// `None` if the model was set by hand: then the digest is not checked.
    pub sha256: Option<Vec<u8>>,
}

/// What the embeddings belong to.
#[derive(Clone, Debug)]
pub enum EmbeddingOwner {
    /// A classifier, by its name.
    Classifier(String),
    /// The likeness vectors of a classifier, by its name.
    Likeness(String),
    /// A column of a table, by their quoted names.
    Column { relation: String, column: String },
}

/// The beginning of a sentence, such as `classifier "pets" was`.
impl fmt::Display for EmbeddingOwner {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            EmbeddingOwner::Classifier(name) => write!(f, "classifier \"{name}\" was"),
            EmbeddingOwner::Likeness(name) => write!(f, "the likeness vectors of classifier \"{name}\" were"),
            EmbeddingOwner::Column { relation, column } => {
                write!(f, "the embeddings in column {column} of {relation} were")
            }
        }
    }
}
