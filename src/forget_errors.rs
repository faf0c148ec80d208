//! `susx.forget_errors(...)`: has images that could not be embedded tried again.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::pg::catalog::errors;
use crate::pg::error::Error;
use crate::pg::name::Name;
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;

/// Deletes a table's records from `susx.errors`: all, or those of one column, or of one key. Returns how many. The next
/// call of `embed_table` tries these images again.
#[pg_extern(volatile, parallel_unsafe)]
fn forget_errors(
    _version: SameVersion,
    rel: Option<RegClass>,
    embedding_column: default!(Option<Name>, "NULL"),
    key: default!(Option<String>, "NULL"),
) -> Result<i64, ErrorReport> {
    let relation = Error::required(rel, "rel")?;
    let column = embedding_column.map(|Name(column)| column);
    let deleted = errors::forget(relation, column.as_deref(), key)?;
    Ok(i64::try_from(deleted).unwrap_or(i64::MAX))
}
