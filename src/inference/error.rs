//! Errors in the communication with the inference process.

use std::io;

use pgrx::PgSqlErrorCode::{self, *};
use susx_server::protocol::ProtocolError;

use crate::pg::embedding_model::EmbeddingOwner;
use crate::pg::error::SqlError;

/// Why the inference process did not serve a request.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// No inference process is running. Holds the message and the HINT.
    #[error("{0}")]
    Unavailable(String, &'static str),
    #[error("lost the connection to the inference process: {0}")]
    ConnectionLost(io::Error),
    #[error("susx-server is version {server}, but the library of the extension is version {library}")]
    Version { server: String, library: &'static str },
    /// The inference process has other files of the model than those that the embeddings were made with.
    #[error("{owner} made with other files of model \"{model}\"")]
    ModelChanged { owner: EmbeddingOwner, model: String },
}

impl SqlError for InferenceError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        match self {
            InferenceError::Unavailable(..) => ERRCODE_CANNOT_CONNECT_NOW,
            InferenceError::ConnectionLost(_) => ERRCODE_CONNECTION_FAILURE,
            InferenceError::Version { .. } | InferenceError::ModelChanged { .. } => {
                ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
            }
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            InferenceError::Unavailable(_, hint) => (*hint).to_owned(),
            InferenceError::ConnectionLost(_) => {
                "It has been or will be restarted; PostgreSQL's log may say why it ended.".to_owned()
            }
            InferenceError::Version { .. } => {
                "Install both of the same version and restart PostgreSQL.".to_owned()
            }
            InferenceError::ModelChanged { owner: EmbeddingOwner::Column { relation, column }, .. } => {
                format!(
                    "Restore the old files and restart PostgreSQL. Or embed again: UPDATE {relation} SET {column} = \
                     NULL, and call again."
                )
            }
            InferenceError::ModelChanged { owner: EmbeddingOwner::Likeness(classifier), model } => format!(
                "Restore the old files and restart PostgreSQL. Or create the vectors again: \
                 susx.alter_classifier('{classifier}', likeness_model => '{model}'), embed the images' tables, and \
                 call susx.build_support_set."
            ),
            InferenceError::ModelChanged { owner: EmbeddingOwner::Classifier(classifier), model } => format!(
                "Restore the old files and restart PostgreSQL. Or embed again: the classifier's rows, with \
                 susx.alter_classifier('{classifier}', model => '{model}') and UPDATE {classifier} SET embedding = \
                 NULL; its images' tables; and what susx.build_support_set retrieved from them."
            ),
        })
    }
}

impl SqlError for ProtocolError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        ERRCODE_PROTOCOL_VIOLATION
    }
}
