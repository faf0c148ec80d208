//! Making a table a classifier of this version and this database.

use pgrx::PgSqlErrorCode;
use pgrx::spi::quote_identifier;

use super::super::column::Column;
use super::super::write;
use super::create::{ROWS_CHECK, SETTINGS_COLUMN, create_triggers, kind_check, rows_check};
use super::old_table::{check_owner, old_constraints};
use super::{Settings, register, registered, settings_row, update_registered};
use crate::pg::error::{Result, SqlError};
use crate::pg::regclass::RegClass;
use crate::pg::spi::operators::EQ;
use crate::pg::spi::{Access, arg, first};

/// The relation is of another kind.
#[derive(Debug, thiserror::Error)]
#[error("\"{0}\" is not an ordinary table, so it cannot become a classifier")]
struct NoTable(String);

impl SqlError for NoTable {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE
    }

    fn hint(&self) -> Option<String> {
        Some("A view, a partitioned, a temporary or a foreign table cannot. CREATE TABLE … AS SELECT copies its rows.".to_owned())
    }
}

/// The columns that every classifier's table has.
const COLUMNS: [&str; 6] = ["id", "category", "kind", "origin", "prompt", "embedding"];

/// Gives the table what a new classifier has: the triggers, a row with its settings, and one in `susx.classifier`. The
/// settings are those in the table, else those in `susx.classifier`, else those to start from; returns whether it was the
/// last. An error unless the caller owns the table.
pub fn adopt(classifier: RegClass) -> Result<bool> {
    if !classifier.is_permanent_table() {
        return Err(NoTable(classifier.name()?).into());
    }
    for column in COLUMNS {
        Column::open(classifier, column)?;
    }
    check_owner(classifier, "settings in it", "susx.adopt_classifier changes the table")?;
    let (stored, known) = (settings_row::read_latest(classifier)?, registered(classifier, Access::Current)?);
    let is_new = stored.is_none() && known.is_none();
    let settings = stored.as_ref().or(known.as_ref()).cloned().unwrap_or(Settings::START);
    let table = classifier.quoted()?;
    let changes = changes(classifier)?;
    if !changes.is_empty() {
        write(&format!("ALTER TABLE {table} {}", changes.join(", ")), &[])?;
    }
    create_triggers(&table)?;
    if stored.is_none() {
        settings_row::insert(classifier, &settings)?;
    }
    match known {
        None => register(classifier, &settings)?,
        Some(known) if known != settings => {
            update_registered(classifier, &settings)?;
        }
        Some(_) => {}
    }
    Ok(is_new)
}

/// The actions of an ALTER TABLE that let an older table hold the row of settings.
fn changes(classifier: RegClass) -> Result<Vec<String>> {
    let mut changes = old_constraints(classifier, "kind", &["prompt", "image"], "settings", &kind_check())?;
    let sql = format!(
        "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid {EQ} $1 AND conname {EQ} \
         '{ROWS_CHECK}')"
    );
    if first(&sql, &[arg(classifier.0)])?.unwrap_or(false) {
        changes
            .extend(["category", "embedding"].map(|column| format!("ALTER COLUMN {column} DROP NOT NULL")));
        changes.push(format!("ADD COLUMN IF NOT EXISTS {SETTINGS_COLUMN}"));
        let name = quote_identifier(ROWS_CHECK);
        changes.push(format!("ADD CONSTRAINT {name} CHECK ({})", rows_check()));
    }
    Ok(changes)
}
