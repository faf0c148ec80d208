//! Errors in the communication with the inference process.

use std::io;

use pgrx::PgSqlErrorCode::{self, *};
use susx_server::protocol::ProtocolError;

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
}

impl SqlError for InferenceError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        match self {
            InferenceError::Unavailable(..) => ERRCODE_CANNOT_CONNECT_NOW,
            InferenceError::ConnectionLost(_) => ERRCODE_CONNECTION_FAILURE,
            InferenceError::Version { .. } => ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            InferenceError::Unavailable(_, hint) => hint,
            InferenceError::ConnectionLost(_) => {
                "It has been or will be restarted; PostgreSQL's log may say why it ended."
            }
            InferenceError::Version { .. } => "Install both of the same version and restart PostgreSQL.",
        };
        Some(hint.to_owned())
    }
}

impl SqlError for ProtocolError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        ERRCODE_PROTOCOL_VIOLATION
    }
}
