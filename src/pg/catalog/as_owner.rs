//! susx's own tables, read and written without their row-level security.
//!
//! The policies of these tables decide what a caller sees and changes in SQL. A caller whose view of a table of images
//! is restricted by row-level security sees no record about that table at all. For such a caller susx itself reads and
//! writes records, but only those of rows that the caller can see or update.

use std::ffi::CStr;

use crate::pg::error::{Error, Result};
use crate::pg::open::OpenRelation;
use crate::pg::roles;

/// Runs statements on `table`, one of susx's own, as its owner, whom no policy restricts. The statements must name no
/// other table, and it must be certain that the caller has the right to do what they do.
pub(super) fn as_owner<T>(table: &CStr, call: impl FnOnce() -> Result<T>) -> Result<T> {
    match OpenRelation::own(table).map(|table| table.owner()) {
        Some(owner) => roles::as_role(owner, call),
        None => Err(Error::internal(format_args!("susx.{} does not exist", table.to_string_lossy()))),
    }
}
