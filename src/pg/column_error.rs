//! Errors about columns.

use pgrx::PgSqlErrorCode::{self, *};

use super::error::SqlError;

/// Why a column cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ColumnError {
    #[error("column \"{column}\" of relation \"{relation}\" does not exist")]
    NoColumn { relation: String, column: String },
    /// The column does not have the expected type.
    #[error("column \"{column}\" has type {found}, not {expected}")]
    Type { column: String, found: String, expected: String },
    /// A column to be written does not have the expected type.
    #[error("column \"{column}\" of relation \"{relation}\" has type {found}, not {expected}")]
    TargetType { relation: String, column: String, found: String, expected: String },
    #[error("column \"{0}\" must not be NULL")]
    Null(String),
}

impl SqlError for ColumnError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        match self {
            ColumnError::NoColumn { .. } => ERRCODE_UNDEFINED_COLUMN,
            ColumnError::Type { .. } | ColumnError::TargetType { .. } => ERRCODE_DATATYPE_MISMATCH,
            ColumnError::Null(_) => ERRCODE_NULL_VALUE_NOT_ALLOWED,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ColumnError::NoColumn { .. } | ColumnError::TargetType { .. } => None,
            ColumnError::Type { .. } | ColumnError::Null(_) => Some(
                "A classifier must have the columns and types that susx.create_classifier creates."
                    .to_owned(),
            ),
        }
    }
}
