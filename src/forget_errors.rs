//! `susx.forget_errors(...)`: images that could not be embedded are to be tried again.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::pg::catalog::errors;
use crate::pg::error::Error;
use crate::pg::name::Name;
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;

/// Deletes the records of a table of images from `susx.errors`, or those of one column, or of one key; returns how many
/// there were. The next call of `embed_table` tries these images again.
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
