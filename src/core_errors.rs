//! SQLSTATEs and HINTs of the errors of `susx-core`.

use pgrx::PgSqlErrorCode::{self, *};
use susx_core::classifier::ParamError;
use susx_core::method::{Method, UnknownMethod};
use susx_core::sus::{CuplError, PromptError, SupportError};

use crate::pg::error::SqlError;

impl SqlError for SupportError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        match self {
            SupportError::NoCategory | SupportError::NoPrompt(_) => ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            SupportError::TooMany { .. } => ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            _ => ERRCODE_DATA_EXCEPTION,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            SupportError::NoPrompt(_) => {
                Some("Correct the category of these rows, or add a prompt for it.".to_owned())
            }
            _ => None,
        }
    }
}

impl SqlError for PromptError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        ERRCODE_INVALID_PARAMETER_VALUE
    }

    fn hint(&self) -> Option<String> {
        match self {
            PromptError::NoTemplate => None,
            PromptError::NoPlaceholder(_) => {
                Some("A template is a sentence such as 'a photo of a {}.'.".to_owned())
            }
        }
    }
}

impl SqlError for CuplError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        ERRCODE_INVALID_PARAMETER_VALUE
    }

    fn hint(&self) -> Option<String> {
        Some("Prompts are written as {\"category\": [\"sentence\", ...], ...}.".to_owned())
    }
}

impl SqlError for ParamError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE
    }
}

impl SqlError for UnknownMethod {
    fn sqlstate(&self) -> PgSqlErrorCode {
        ERRCODE_UNDEFINED_OBJECT
    }

    fn hint(&self) -> Option<String> {
        Some(format!("Methods: {}.", Method::ALL.map(Method::name).join(", ")))
    }
}
