//! susx's own tables, read and written beyond their policies.
//!
//! Their policies decide what a caller sees and changes in SQL. A caller whom row-level security holds back in a table
//! of images sees nothing that is written down about it; what [`as_owner`] does for such a caller is limited to rows of
//! that table that the caller was found to see, or to change.

use std::ffi::CStr;

use crate::pg::error::{Error, Result};
use crate::pg::open::Open;
use crate::pg::roles;

/// Runs statements on `table`, one of susx's own, as its owner, whom no policy holds back. They must name no other
/// table, and the caller's right to what they do must be known.
pub(super) fn as_owner<T>(table: &CStr, call: impl FnOnce() -> Result<T>) -> Result<T> {
    match Open::own(table).map(|table| table.owner()) {
        Some(owner) => roles::as_role(owner, call),
        None => Err(Error::Internal(format!("susx.{} does not exist", table.to_string_lossy()))),
    }
}
