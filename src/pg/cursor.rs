//! A query of the caller's that is read bit by bit, by a function that returns to its caller in between.
//!
//! It is a portal, as that of DECLARE CURSOR: known by its name, since whatever happens between two
//! looks may have closed it, and closed by PostgreSQL itself when the (sub)transaction that opened it
//! fails or the transaction ends.

use std::ffi::CString;

use pgrx::pg_sys;

use super::error::{Error, Result};
use super::spi::{Access, Columns, Connection, Portal, Row};

/// An open query.
#[derive(Debug)]
pub struct Cursor {
    name: CString,
}

impl Cursor {
    /// Starts a query that the caller wrote, after `check` has seen its columns.
    pub fn open<T>(sql: &str, check: impl FnOnce(&Columns) -> Result<T>) -> Result<(Self, T)> {
        let _connection = Connection::open()?;
        let portal = Portal::open(sql, &[], Access::Callers)?;
        // Closes the portal if the check fails: the error may be caught.
        let cursor = Cursor { name: portal.name() };
        let checked = check(&portal.columns())?;
        Ok((cursor, checked))
    }

    /// Shows the next rows to `each`, `most` of them unless there are fewer; how many there were.
    pub fn fetch(&self, most: usize, mut each: impl FnMut(&Row) -> Result<()>) -> Result<usize> {
        let _connection = Connection::open()?;
        let portal = Portal::find(&self.name, Access::Callers).ok_or(Error::CursorClosed)?;
        portal.fetch(i64::try_from(most).unwrap_or(i64::MAX), |row| each(row).map(|()| true))
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        // While an ERROR is on its way, or a transaction is being aborted, the portal is PostgreSQL's to
        // close, and closing it here would be too early or too late.
        // SAFETY: reads a variable of this process.
        let is_ours = !std::thread::panicking() && unsafe { pg_sys::IsTransactionState() };
        if let Some(portal) = is_ours.then(|| Portal::find(&self.name, Access::Callers)).flatten() {
            portal.close();
        }
    }
}
