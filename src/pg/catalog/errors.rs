//! `susx.errors`: images that have no embedding because they cannot be embedded.

use pgrx::PgSqlErrorCode;
use susx_server::protocol::Failure;

use super::images::{EXACT, Images, RowId, VERSION, WRITER, freeing_arguments};
use super::{arg, first, with_settings, write};
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::roles;

impl Images {
    /// Records rows that have failed, if they are still as they were read; returns how many.
    pub fn record(&self, failed: &[(&RowId, &Failure)]) -> Result<usize> {
        let rows: Vec<&RowId> = failed.iter().map(|(row, _)| *row).collect();
        let next = self.key.len() + 5;
        // A table with children may have a key twice.
        let sql = format!(
            "INSERT INTO susx.errors (relation, embedding_column, key, row_version, sqlstate, message) \
             SELECT DISTINCT ON (u.name) ${next}, ${}::pg_catalog.name, u.name, {WRITER}, u.sqlstate, u.message \
             FROM {} JOIN {} t ON {} WHERE {VERSION} OPERATOR(pg_catalog.=) u.version \
             ON CONFLICT (relation, embedding_column, key) DO UPDATE SET row_version = excluded.row_version, \
             sqlstate = excluded.sqlstate, message = excluded.message, \"time\" = excluded.\"time\"",
            next + 1,
            self.unnest(&["version", "name", "sqlstate", "message"]),
            self.table,
            self.joined("t", "u"),
        );
        freeing_arguments(|| {
            let mut args = self.row_args(&rows);
            args.push(arg(rows.iter().map(|row| row.name.clone()).collect::<Vec<_>>()));
            args.push(arg(failed.iter().map(|(_, failure)| sqlstate(failure)).collect::<Vec<_>>()));
            args.push(arg(failed.iter().map(|(_, failure)| failure.message.clone()).collect::<Vec<_>>()));
            args.push(arg(self.relation));
            args.push(arg(self.column.clone()));
            write(&sql, &args)
        })
    }

    /// Deletes the records of rows that have an embedding now.
    pub fn forget(&self, embedded: &[&RowId]) -> Result<()> {
        let keys = embedded.iter().map(|row| row.name.clone()).collect();
        delete(self.relation, Some(&self.column), Some(keys))?;
        Ok(())
    }

    /// How many rows are recorded from before this time, a timestamptz.
    pub fn recorded_before(&self, time: &str) -> Result<i64> {
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM susx.errors WHERE {OF_THE_TABLE} \
             AND \"time\" OPERATOR(pg_catalog.<) $3::pg_catalog.timestamptz"
        );
        let count = first(&sql, &[arg(self.relation), arg(self.column.clone()), arg(time.to_owned())])?;
        Ok(count.unwrap_or(0))
    }
}

const OF_THE_TABLE: &str = "relation OPERATOR(pg_catalog.=) $1 \
    AND embedding_column OPERATOR(pg_catalog.=) $2::pg_catalog.name";

/// Deletes records of a table, if the caller may update it: of all columns, and of all keys, where none are named.
/// Returns how many.
pub fn forget(relation: RegClass, column: Option<&str>, key: Option<String>) -> Result<u64> {
    let sql = "SELECT pg_catalog.has_any_column_privilege($1, 'UPDATE') IS NOT FALSE";
    match first(sql, &[arg(relation.0)])? {
        Some(true) => delete(relation, column, key.map(|key| vec![key])),
        _ => Err(Error::Permission(relation.name()?)),
    }
}

/// As the table's owner: a right to delete is one to the whole table, and who has that can lock it against everybody.
fn delete(relation: RegClass, column: Option<&str>, keys: Option<Vec<String>>) -> Result<u64> {
    let sql = "DELETE FROM susx.errors WHERE relation OPERATOR(pg_catalog.=) $1 \
               AND ($2 IS NULL OR embedding_column OPERATOR(pg_catalog.=) $2::pg_catalog.name) \
               AND ($3 IS NULL OR key OPERATOR(pg_catalog.=) ANY ($3))";
    let owner = "SELECT relowner FROM pg_catalog.pg_class \
                 WHERE oid OPERATOR(pg_catalog.=) 'susx.errors'::pg_catalog.regclass";
    let owner = first(owner, &[])?.ok_or_else(|| Error::Internal("susx.errors does not exist".to_owned()))?;
    let deleted = freeing_arguments(|| {
        roles::as_role(owner, || write(sql, &[arg(relation), arg(column.map(str::to_owned)), arg(keys)]))
    })?;
    Ok(deleted as u64)
}

/// The time, as [`Images::recorded_before`] takes it.
pub fn now() -> Result<String> {
    let sql = "SELECT pg_catalog.clock_timestamp()::pg_catalog.text";
    with_settings(&EXACT, || first(sql, &[]))?
        .ok_or_else(|| Error::Internal("clock_timestamp returned NULL".to_owned()))
}

/// The five characters of the error that the failure would be.
fn sqlstate(failure: &Failure) -> String {
    code_text(Error::Server(failure.clone()).sqlstate())
}

/// PostgreSQL packs six bits for each of five characters.
fn code_text(code: PgSqlErrorCode) -> String {
    let code = code as u32;
    (0..5).map(|i| char::from(b'0' + (code >> (6 * i) & 0x3f) as u8)).collect()
}
