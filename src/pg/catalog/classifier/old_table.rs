//! Tables of classifiers that were made by an older version.

use pgrx::PgSqlErrorCode;
use pgrx::spi::quote_identifier;

use crate::pg::error::{Error, Result, SqlError};
use crate::pg::regclass::RegClass;
use crate::pg::spi::operators::EQ;
use crate::pg::spi::{self, arg, first};

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

/// The actions of an ALTER TABLE that replace the old constraint of a column. It is the constraint that lists these
/// values but not the new one. A table may have other constraints of its owner, which stay.
pub(super) fn old_constraints(
    classifier: RegClass,
    column: &str,
    values: &[&str],
    new: &str,
    check: &str,
) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT c.conname::pg_catalog.text, pg_catalog.pg_get_constraintdef(c.oid) \
         FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_attribute a \
         ON a.attrelid {EQ} c.conrelid AND c.conkey {EQ} ARRAY[a.attnum] \
         WHERE c.conrelid {EQ} $1 AND c.contype {EQ} 'c' AND a.attname {EQ} $2::pg_catalog.name"
    );
    let is_listed = |definition: &str, value: &str| definition.contains(&format!("'{value}'"));
    let mut changes = Vec::new();
    spi::read(&sql, &[arg(classifier.0), arg(column.to_owned())], |row| {
        let (name, definition): (String, String) = (row.required(1)?, row.required(2)?);
        if values.iter().all(|value| is_listed(&definition, value)) && !is_listed(&definition, new) {
            let name = quote_identifier(name);
            changes.push(format!("DROP CONSTRAINT {name}"));
            changes.push(format!("ADD CONSTRAINT {name} CHECK ({check})"));
        }
        Ok(true)
    })?;
    Ok(changes)
}
