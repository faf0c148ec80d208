//! A query of the caller's that a function reads in portions, returning to its caller in between.
//!
//! It is a portal, like that of DECLARE CURSOR. Between two reads the function knows it by name only, because anything
//! may have closed it in the meantime. PostgreSQL closes it when the (sub)transaction that opened it fails, or when the
//! transaction ends.

use std::ffi::CString;

use pgrx::{PgSqlErrorCode, pg_sys};

use super::portal::Portal;
use super::{Access, Columns, Connection, Row, user_query};
use crate::pg::error::{Result, SqlError};

/// The portal was closed between two reads.
#[derive(Debug, thiserror::Error)]
#[error("the query that was being read has been closed")]
struct CursorClosed;

impl SqlError for CursorClosed {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_INVALID_CURSOR_STATE
    }

    fn hint(&self) -> Option<String> {
        Some(
            "ROLLBACK TO closes queries opened after the savepoint, and COMMIT closes all. Call the function again."
                .to_owned(),
        )
    }
}

/// An open query.
#[derive(Debug)]
pub struct Cursor {
    name: CString,
}

impl Cursor {
    /// Starts a query that the caller wrote, and returns what `check` made of its columns. `example` is a query of the kind
    /// that is expected.
    pub fn open<T>(sql: &str, example: &str, check: impl FnOnce(&Columns) -> Result<T>) -> Result<(Self, T)> {
        let _connection = Connection::open()?;
        let start = || Portal::open(sql, &[], Access::UserQuery);
        let portal = user_query::explained(sql, example, start)?;
        // Closes the portal if the check fails: the error may be caught.
        let cursor = Cursor { name: portal.name() };
        let checked = check(&portal.columns())?;
        Ok((cursor, checked))
    }

    /// Passes up to `most` of the next rows to `each`. Returns how many there were.
    pub fn fetch(&self, most: usize, mut each: impl FnMut(&Row) -> Result<()>) -> Result<usize> {
        let _connection = Connection::open()?;
        let portal = Portal::find(&self.name, Access::UserQuery).ok_or(CursorClosed)?;
        portal.fetch(i64::try_from(most).unwrap_or(i64::MAX), |row| each(row).map(|()| true))
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        // During an ERROR or an abort PostgreSQL closes the portal itself, when it can be closed.
        // SAFETY: reads a variable of this process.
        let is_ours = !std::thread::panicking() && unsafe { pg_sys::IsTransactionState() };
        if let Some(portal) = is_ours.then(|| Portal::find(&self.name, Access::UserQuery)).flatten() {
            portal.close();
        }
    }
}
