//! Errors as SQL sees them.
//!
//! Each area declares its own error types next to the code that returns them, and implements [`SqlError`] for them. `?`
//! turns them into an [`Error`].

use std::fmt::Display;

use pgrx::PgSqlErrorCode;

/// An error type of one area. Its `Display` is the message.
pub trait SqlError: std::error::Error {
    /// The SQLSTATE, by which clients tell errors apart.
    fn sqlstate(&self) -> PgSqlErrorCode;

    /// What the caller can do about the error, if anything.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// An error as a client sees it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    sqlstate: PgSqlErrorCode,
    message: String,
    hint: Option<String>,
}

/// The result of an operation that may fail with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl<E: SqlError> From<E> for Error {
    fn from(error: E) -> Self {
        Error { sqlstate: error.sqlstate(), message: error.to_string(), hint: error.hint() }
    }
}

impl From<pgrx::spi::Error> for Error {
    fn from(error: pgrx::spi::Error) -> Self {
        Error::internal(error)
    }
}

impl Error {
    fn new(sqlstate: PgSqlErrorCode, message: impl Into<String>) -> Self {
        Error { sqlstate, message: message.into(), hint: None }
    }

    /// An invalid argument.
    pub fn argument(message: impl Into<String>) -> Self {
        Error::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
    }

    /// A failure that should never happen, such as a broken guarantee of PostgreSQL.
    pub fn internal(error: impl Display) -> Self {
        Error::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, format!("susx internal error: {error}"))
    }

    /// The value of an argument; an error if it is NULL.
    pub fn required<T>(argument: Option<T>, name: &'static str) -> Result<T> {
        argument.ok_or_else(|| {
            Error::new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("{name} must not be NULL"))
        })
    }

    /// Sets the HINT.
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Error { hint: Some(hint.into()), ..self }
    }

    /// Prefixes the message with the place of the error, such as `element 3`.
    pub fn within(self, place: impl Display) -> Self {
        Error { message: format!("{place}: {}", self.message), ..self }
    }

    /// Prefixes the message with a row of a query that the caller wrote. Rows count from 1.
    pub fn in_row(self, row: u64) -> Self {
        self.within(format_args!("row {row} of the query"))
    }

    /// The SQLSTATE.
    pub fn sqlstate(&self) -> PgSqlErrorCode {
        self.sqlstate
    }

    /// The HINT.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether the error is that a relation does not exist.
    pub fn is_undefined_table(&self) -> bool {
        self.sqlstate == PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE
    }
}
