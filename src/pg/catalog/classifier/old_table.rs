//! Tables of classifiers that were made by an older version.

use pgrx::PgSqlErrorCode;

use crate::pg::error::{Error, Result, SqlError};
use crate::pg::regclass::RegClass;
use crate::pg::spi::operators::EQ;
use crate::pg::spi::{arg, first};

/// The table must be changed, and the caller may not do it.
#[derive(Debug, thiserror::Error)]
#[error(
    "the table of classifier \"{classifier}\" was made before there were {what}, and has no place for them"
)]
struct OldTable {
    classifier: String,
    owner: String,
    what: &'static str,
    /// How the table is changed.
    change: &'static str,
}

impl SqlError for OldTable {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE
    }

    fn hint(&self) -> Option<String> {
        Some(format!("{}, which only its owner may do: {}.", self.change, self.owner))
    }
}

/// An error unless the caller may change the table for something that it was made before. `change` says how it is changed.
pub(super) fn check_owner(classifier: RegClass, what: &'static str, change: &'static str) -> Result<()> {
    let sql = format!(
        "SELECT pg_catalog.pg_has_role(relowner, 'USAGE') FROM pg_catalog.pg_class WHERE oid {EQ} $1"
    );
    if first(&sql, &[arg(classifier.0)])?.unwrap_or(false) {
        return Ok(());
    }
    let sql = format!(
        "SELECT pg_catalog.pg_get_userbyid(relowner)::pg_catalog.text FROM pg_catalog.pg_class WHERE oid {EQ} $1"
    );
    let owner: Option<String> = first(&sql, &[arg(classifier.0)])?;
    let owner = owner.ok_or_else(|| Error::internal("a table has no owner"))?;
    Err(OldTable { classifier: classifier.name()?, owner, what, change }.into())
}
