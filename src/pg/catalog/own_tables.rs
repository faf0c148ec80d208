//! susx's own tables, read and written beyond their policies.
//!
//! Their policies decide what a caller sees and changes in SQL. A caller whom row-level security holds back in a table
//! of images sees nothing that is written down about it; what [`as_owner`] does for such a caller is limited to rows of
//! that table that the caller was found to see, or to change.

use pgrx::pg_sys;

use super::{arg, first};
use crate::pg::error::{Error, Result};
use crate::pg::roles;

/// Runs statements on `table`, one of susx's own, as its owner, whom no policy holds back. They must name no other
/// table, and the caller's right to what they do must be known.
pub(super) fn as_owner<T>(table: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
    let owner = owner(table)?.ok_or_else(|| Error::Internal(format!("{table} does not exist")))?;
    roles::as_role(owner, call)
}

/// The role that a table belongs to; `None` if the table does not exist.
pub(super) fn owner(table: &str) -> Result<Option<pg_sys::Oid>> {
    let sql = "SELECT relowner FROM pg_catalog.pg_class \
               WHERE oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass($1)::pg_catalog.oid";
    first(sql, &[arg(table.to_owned())])
}
