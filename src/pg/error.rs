//! The error that SQL gets to see. Each area declares its own errors beside what they are about.

use std::fmt::Display;

use pgrx::PgSqlErrorCode;

/// An error of an area, as SQL reports it. Its text is the message.
pub trait SqlError: std::error::Error {
    /// The SQLSTATE that clients tell errors apart by.
    fn sqlstate(&self) -> PgSqlErrorCode;

    /// What the caller can do about it.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// What a client gets to see of an error.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    sqlstate: PgSqlErrorCode,
    message: String,
    hint: Option<String>,
}

/// The result of what may end in an error of SQL.
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

    /// An argument that makes no sense.
    pub fn argument(message: impl Into<String>) -> Self {
        Error::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
    }

    /// A failure that should not happen: something that PostgreSQL promises did not hold.
    pub fn internal(error: impl Display) -> Self {
        Error::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, format!("susx internal error: {error}"))
    }

    /// The value of an argument that must have one.
    pub fn required<T>(argument: Option<T>, name: &'static str) -> Result<T> {
        argument.ok_or_else(|| {
            Error::new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("{name} must not be NULL"))
        })
    }

    /// The same error with a HINT.
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Error { hint: Some(hint.into()), ..self }
    }

    /// The same error with a message that says first where it happened, such as `element 3`.
    pub fn within(self, place: impl Display) -> Self {
        Error { message: format!("{place}: {}", self.message), ..self }
    }

    /// The same error of a row, counted from 1, of a query that the caller wrote.
    pub fn in_row(self, row: u64) -> Self {
        self.within(format_args!("row {row} of the query"))
    }

    /// The SQLSTATE.
    pub fn sqlstate(&self) -> PgSqlErrorCode {
        self.sqlstate
    }

    /// What the caller can do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether a relation does not exist.
    pub fn is_undefined_table(&self) -> bool {
        self.sqlstate == PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE
    }
}
