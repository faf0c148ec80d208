//! Errors about classifiers.

use pgrx::PgSqlErrorCode::{self, *};

use crate::pg::error::SqlError;

/// Why a classifier cannot be used as asked. `known` lists the categories that exist.
#[derive(Debug, thiserror::Error)]
pub enum ClassifierError {
    /// `known` is the HINT, which lists the classifiers that exist.
    #[error("\"{name}\" is not a classifier")]
    NotAClassifier { name: String, known: String },
    #[error("category \"{category}\" of classifier \"{classifier}\" does not exist")]
    NoCategory { classifier: String, category: String, known: String },
    #[error("categories {missing} of classifier \"{classifier}\" do not exist")]
    NoCategories { classifier: String, missing: String, known: String },
    #[error("classifier \"{classifier}\" expects {expected} dimensions, not {found}")]
    Dimensions { classifier: String, expected: usize, found: usize },
    #[error("classifier \"{classifier}\" expects likeness vectors of {expected} dimensions, not {found}")]
    LikenessDimensions { classifier: String, expected: usize, found: usize },
    #[error("classifier \"{0}\" has no model, so it can only classify vectors")]
    NoModel(String),
    #[error("classifier \"{0}\" compares images by likeness vectors, but has no model that makes them")]
    NoLikenessModel(String),
    #[error("classifier \"{0}\" compares images by likeness vectors, and the query gives none")]
    NoLikeness(String),
    #[error("a classifier needs a model that embeds text, but \"{0}\" embeds only images")]
    ModelOfImages(String),
    #[error("model \"{0}\" embeds texts only, so it cannot tell how alike images are")]
    NoImages(String),
    #[error("classifier \"{0}\" has no support images")]
    NoSupport(String),
}

impl SqlError for ClassifierError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        match self {
            ClassifierError::NotAClassifier { .. }
            | ClassifierError::NoCategory { .. }
            | ClassifierError::NoCategories { .. } => ERRCODE_UNDEFINED_OBJECT,
            ClassifierError::ModelOfImages(_) => ERRCODE_WRONG_OBJECT_TYPE,
            ClassifierError::Dimensions { .. } | ClassifierError::LikenessDimensions { .. } => {
                ERRCODE_DATA_EXCEPTION
            }
            ClassifierError::NoImages(_) => ERRCODE_WRONG_OBJECT_TYPE,
            ClassifierError::NoModel(_)
            | ClassifierError::NoLikenessModel(_)
            | ClassifierError::NoSupport(_) => ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            ClassifierError::NoLikeness(_) => ERRCODE_DATATYPE_MISMATCH,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            ClassifierError::NotAClassifier { known, .. } => known.clone(),
            ClassifierError::NoCategory { known, .. } | ClassifierError::NoCategories { known, .. } => {
                format!("Its categories: {known}.")
            }
            ClassifierError::Dimensions { .. } | ClassifierError::LikenessDimensions { .. } => {
                "Were both made by the same model?".to_owned()
            }
            ClassifierError::NoModel(_) => {
                "Set one with susx.alter_classifier(classifier, model => 'name').".to_owned()
            }
            ClassifierError::NoLikenessModel(_) => {
                "Set one with susx.alter_classifier(classifier, likeness_model => 'name'), or give embeddings and \
                 likeness vectors.".to_owned()
            }
            ClassifierError::NoLikeness(_) => {
                "Add them as the third column: 'SELECT embedding, category, likeness FROM images'.".to_owned()
            }
            ClassifierError::ModelOfImages(_) => {
                "Name one whose kind is \"clip\" in susx.models(). A model of images is for susx.embed_image, \
                 susx.embed_table and susx.embed_on_write."
                    .to_owned()
            }
            ClassifierError::NoImages(_) => {
                "Name a model that embeds images: susx.models() shows it with the kind vision or clip."
                    .to_owned()
            }
            ClassifierError::NoSupport(_) => {
                "Add some with susx.build_support_set or susx.add_support.".to_owned()
            }
        })
    }
}
