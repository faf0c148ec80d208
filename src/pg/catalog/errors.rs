//! `susx.errors`: records of the images that could not be embedded.

use std::collections::HashSet;
use std::ffi::CStr;

use pgrx::PgSqlErrorCode;
use pgrx::prelude::*;
use susx_server::protocol::Failure;

use super::as_owner::as_owner;
use super::image_table::Retry;
use super::keyed_table::{KeyedTable, RowId, VERSION, WRITER};
use super::session_settings::{EXACT_TEXT, with_settings};
use super::{key, write};
use crate::pg::error::{Error, Result, SqlError};
use crate::pg::regclass::RegClass;
use crate::pg::relation_error::RelationError;
use crate::pg::spi::operators::{EQ, GE, GT};
use crate::pg::spi::{self, arg, first, freeing_arguments};

/// The name of the table.
const ERRORS: &CStr = c"errors";

/// Why nothing could be written to a row.
#[derive(Clone, Debug)]
pub struct RowFailure {
    pub sqlstate: PgSqlErrorCode,
    pub message: String,
}

impl From<&Failure> for RowFailure {
    fn from(failure: &Failure) -> Self {
        RowFailure { sqlstate: failure.sqlstate(), message: failure.message.clone() }
    }
}

impl KeyedTable {
    /// Records rows that have failed, if they have not changed since they were read and the caller may update them.
    /// Returns how many it recorded. A row that another transaction is deleting is skipped rather than waited for.
    pub fn record(&self, failed: &[(&RowId, RowFailure)]) -> Result<usize> {
        let ids: Vec<&RowId> = failed.iter().map(|(row, _)| *row).collect();
        let (mut names, mut columns) = (HashSet::new(), <[Vec<String>; 4]>::default());
        for (index, writer) in self.unchanged(&ids)? {
            let Some((id, failure)) = failed.get(index) else { continue };
            // A table with children may have the same key twice.
            if names.insert(&id.name) {
                let values = [id.name.clone(), writer, code_text(failure.sqlstate), failure.message.clone()];
                columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
            }
        }
        let sql = "INSERT INTO susx.errors (relation, embedding_column, key, row_version, sqlstate, message) \
             SELECT $1, $2::pg_catalog.name, u.key, u.version, u.sqlstate, u.message \
             FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5), \
             pg_catalog.unnest($6)) AS u (key, version, sqlstate, message) \
             ON CONFLICT (relation, embedding_column, key) DO UPDATE SET row_version = excluded.row_version, \
             sqlstate = excluded.sqlstate, message = excluded.message, \"time\" = excluded.\"time\"";
        freeing_arguments(|| {
            let mut args = vec![arg(self.relation), arg(self.column.clone())];
            args.extend(columns.map(arg));
            as_owner(ERRORS, || write(sql, &args))
        })
    }

    /// The indices and writers of those rows that have not changed since they were read, and that the caller may
    /// update. They are locked.
    fn unchanged(&self, rows: &[&RowId]) -> Result<Vec<(usize, String)>> {
        // The lock makes the policies for UPDATE apply, and not only those for SELECT.
        let sql = format!(
            "SELECT u.ord, {WRITER} FROM {} JOIN {} t ON {} WHERE {VERSION} {EQ} u.version \
             FOR KEY SHARE OF t SKIP LOCKED",
            self.unnest(&["version"]),
            self.table,
            self.joined("t", "u"),
        );
        let mut found = Vec::new();
        freeing_arguments(|| {
            let args = self.row_args(rows);
            self.finding_rows(|| {
                Ok(Spi::connect_mut(|client| {
                    for row in client.update(&sql, None, &args)? {
                        let index = row.get::<i64>(1)?.and_then(|ord| usize::try_from(ord - 1).ok());
                        let writer = row.get::<String>(2)?.unwrap_or_default();
                        found.extend(index.map(|index| (index, writer)));
                    }
                    Ok::<_, pgrx::spi::Error>(())
                })?)
            })
        })?;
        Ok(found)
    }

    /// Deletes the records of rows that have an embedding, or a label, now.
    pub fn forget_done(&self, done: &[&RowId]) -> Result<()> {
        let keys = done.iter().map(|row| row.name.clone()).collect();
        delete(self.relation, Some(vec![self.column.clone()]), Some(keys))?;
        Ok(())
    }

    /// Whether there is any record of this table and column.
    pub fn has_records(&self) -> Result<bool> {
        let sql = format!("SELECT EXISTS (SELECT FROM susx.errors e WHERE {})", of_the_column());
        let found = as_owner(ERRORS, || first(&sql, &[arg(self.relation), arg(self.column.clone())]))?;
        Ok(found.unwrap_or(false))
    }

    /// The indices of those rows that failed before and are not to be tried again. A row is given by its key as in
    /// susx.errors, and its writer.
    pub(super) fn failed_before<'r>(
        &self,
        rows: impl Iterator<Item = (&'r str, &'r str)>,
        retry: &Retry,
    ) -> Result<HashSet<usize>> {
        let (keys, writers): (Vec<String>, Vec<String>) =
            rows.map(|(key, writer)| (key.to_owned(), writer.to_owned())).unzip();
        let mut indices = HashSet::new();
        if keys.is_empty() {
            return Ok(indices);
        }
        let since = match retry {
            Retry::Changed => "-infinity",
            Retry::Before(time) => time,
        };
        let sql = format!(
            "SELECT u.ord FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4)) \
             WITH ORDINALITY AS u (key, writer, ord) JOIN susx.errors e ON {} \
             AND e.key {EQ} u.key AND e.row_version {EQ} u.writer \
             AND e.\"time\" {GE} $5::pg_catalog.timestamptz",
            of_the_column()
        );
        freeing_arguments(|| {
            let table = [arg(self.relation), arg(self.column.clone())];
            let args: Vec<_> =
                table.into_iter().chain([arg(keys), arg(writers), arg(since.to_owned())]).collect();
            as_owner(ERRORS, || {
                spi::read(&sql, &args, |row| {
                    indices.extend(usize::try_from(row.required::<i64>(1)? - 1));
                    Ok(true)
                })
            })
        })?;
        Ok(indices)
    }
}

/// The condition that record `e` is about the table and column in the first two arguments.
fn of_the_column() -> String {
    format!("e.relation {EQ} $1 AND e.embedding_column {EQ} $2::pg_catalog.name")
}

/// Deletes the records of a table that the caller may update: those of all columns, and of all keys, unless the call
/// names one. Where row-level security applies to the caller, only those of rows that the caller may update. Returns
/// how many it deleted.
pub fn forget(relation: RegClass, column: Option<&str>, key: Option<String>) -> Result<u64> {
    let columns = updatable(relation, column)?;
    let keys = key.map(|key| vec![key]);
    if !relation.has_row_security() {
        return delete(relation, columns, keys);
    }
    relation.open_for_reading()?;
    let keys = match keys {
        Some(keys) => keys,
        None => recorded_keys(relation)?,
    };
    delete(relation, columns, Some(updatable_rows(relation, keys)?))
}

/// The columns that the caller may update; `None` for all, even if the table was dropped. An error if there are none,
/// or if the named one is not among them.
fn updatable(relation: RegClass, column: Option<&str>) -> Result<Option<Vec<String>>> {
    let named = || column.map(|column| vec![column.to_owned()]);
    let sql = "SELECT pg_catalog.has_table_privilege($1, 'UPDATE') IS NOT FALSE";
    if first(sql, &[arg(relation.0)])?.unwrap_or(false) {
        return Ok(named());
    }
    let sql = format!(
        "SELECT pg_catalog.array_agg(attname::pg_catalog.text) FROM pg_catalog.pg_attribute \
         WHERE attrelid {EQ} $1 AND attnum {GT} 0 AND NOT attisdropped \
         AND pg_catalog.has_column_privilege(attrelid, attnum, 'UPDATE')"
    );
    let found: Vec<String> = first(&sql, &[arg(relation.0)])?.unwrap_or_default();
    match column {
        None if !found.is_empty() => Ok(Some(found)),
        Some(column) if found.iter().any(|name| name == column) => Ok(named()),
        _ => Err(RelationError::Permission(relation.name()?).into()),
    }
}

/// The keys of all records of a table.
fn recorded_keys(relation: RegClass) -> Result<Vec<String>> {
    let sql = format!("SELECT DISTINCT key FROM susx.errors WHERE relation {EQ} $1");
    let mut keys = Vec::new();
    as_owner(ERRORS, || {
        spi::read(&sql, &[arg(relation)], |row| {
            keys.push(row.required(1)?);
            Ok(true)
        })
    })?;
    Ok(keys)
}

/// The keys of those rows that the caller may update.
fn updatable_rows(relation: RegClass, keys: Vec<String>) -> Result<Vec<String>> {
    let text = key::text("t", &key::of(relation)?);
    // The lock makes the policies for UPDATE apply, and not only those for SELECT.
    let sql =
        format!("SELECT {text} FROM {} t WHERE {text} {EQ} ANY ($1) FOR KEY SHARE OF t", relation.quoted()?);
    with_settings(&EXACT_TEXT, || {
        freeing_arguments(|| {
            let found = Spi::connect_mut(|client| {
                let rows = client.update(&sql, None, &[arg(keys)])?;
                rows.filter_map(|row| row.get::<String>(1).transpose()).collect::<Result<Vec<_>, _>>()
            })?;
            Ok(found)
        })
    })
}

/// Deletes records as the owner of susx.errors. Callers have no right to delete from it: that would be a right to the
/// whole table, and to lock it against everybody.
fn delete(relation: RegClass, columns: Option<Vec<String>>, keys: Option<Vec<String>>) -> Result<u64> {
    let sql = format!(
        "DELETE FROM susx.errors WHERE relation {EQ} $1 \
         AND ($2 IS NULL OR embedding_column::pg_catalog.text {EQ} ANY ($2)) \
         AND ($3 IS NULL OR key {EQ} ANY ($3))"
    );
    let deleted =
        freeing_arguments(|| as_owner(ERRORS, || write(&sql, &[arg(relation), arg(columns), arg(keys)])))?;
    Ok(deleted as u64)
}

/// The current time, as [`Retry::Before`] takes it.
pub fn now() -> Result<String> {
    let sql = "SELECT pg_catalog.clock_timestamp()::pg_catalog.text";
    with_settings(&EXACT_TEXT, || first(sql, &[]))?
        .ok_or_else(|| Error::internal("clock_timestamp returned NULL"))
}

/// PostgreSQL packs six bits for each of five characters.
fn code_text(code: PgSqlErrorCode) -> String {
    let code = code as u32;
    (0..5).map(|i| char::from(b'0' + (code >> (6 * i) & 0x3f) as u8)).collect()
}
