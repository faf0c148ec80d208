//! Tables of classifiers that were made before there were negatives.
//!
//! Their CHECK constraints know no such rows. Only the owner can replace a constraint, so the upgrade of the extension
//! does not do it: it happens when a table gets its first negatives.

use pgrx::spi::quote_identifier;

use super::super::write;
use super::create::{kind_check, origin_check};
use super::old_table::check_owner;
use crate::pg::error::Result;
use crate::pg::regclass::RegClass;
use crate::pg::spi::operators::EQ;
use crate::pg::spi::{self, arg};

/// Lets the classifier's table hold negatives. Does nothing if it can already.
pub fn allow_negatives(classifier: RegClass) -> Result<()> {
    let mut changes = old_constraints(classifier, "kind", &["prompt", "image"], "negative", &kind_check())?;
    let origins = ["template", "labelled"];
    changes.extend(old_constraints(classifier, "origin", &origins, "common", &origin_check())?);
    if changes.is_empty() {
        return Ok(());
    }
    let change = "The first call of susx.add_negatives changes a constraint of the table";
    check_owner(classifier, "negatives", change)?;
    write(&format!("ALTER TABLE {} {}", classifier.quoted()?, changes.join(", ")), &[])?;
    Ok(())
}

/// The actions of an ALTER TABLE that replace the old constraint of a column. It is the one that lists these values, but
/// not the new one: a table may have other constraints of its owner's, which stay.
fn old_constraints(
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
