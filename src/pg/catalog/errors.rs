//! `susx.errors`: images that have no embedding because they cannot be embedded.

use std::collections::HashSet;
use std::ffi::CStr;

use pgrx::PgSqlErrorCode;
use pgrx::prelude::*;
use susx_server::protocol::Failure;

use super::images::{EXACT, Images, Retry, RowId, VERSION, WRITER, freeing_arguments};
use super::own_tables::as_owner;
use super::{arg, first, key, with_settings, write};
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::spi;

const ERRORS: &CStr = c"errors";

impl Images {
    /// Records rows that have failed, if they are still as they were read and the caller may update them; returns how
    /// many. A row that somebody else deletes at the moment is not waited for.
    pub fn record(&self, failed: &[(&RowId, &Failure)]) -> Result<usize> {
        let ids: Vec<&RowId> = failed.iter().map(|(row, _)| *row).collect();
        // Locked for the sake of the policies alone: so those for UPDATE count, too.
        let sql = format!(
            "SELECT u.ord, {WRITER} FROM {} JOIN {} t ON {} WHERE {VERSION} OPERATOR(pg_catalog.=) u.version \
             FOR KEY SHARE OF t SKIP LOCKED",
            self.unnest(&["version"]),
            self.table,
            self.joined("t", "u"),
        );
        let (mut names, mut columns) = (HashSet::new(), <[Vec<String>; 4]>::default());
        freeing_arguments(|| {
            let args = self.row_args(&ids);
            self.finding_rows(|| {
                Ok(Spi::connect_mut(|client| {
                    for row in client.update(&sql, None, &args)? {
                        let place = row.get::<i64>(1)?.and_then(|ord| usize::try_from(ord - 1).ok());
                        let Some((id, failure)) = place.and_then(|place| failed.get(place)) else { continue };
                        // A table with children may have a key twice.
                        if names.insert(&id.name) {
                            let writer = row.get::<String>(2)?.unwrap_or_default();
                            let values =
                                [id.name.clone(), writer, sqlstate(failure), failure.message.clone()];
                            columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
                        }
                    }
                    Ok::<_, pgrx::spi::Error>(())
                })?)
            })
        })?;
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

    /// Deletes the records of rows that have an embedding now.
    pub fn forget(&self, embedded: &[&RowId]) -> Result<()> {
        let keys = embedded.iter().map(|row| row.name.clone()).collect();
        delete(self.relation, Some(vec![self.column.clone()]), Some(keys))?;
        Ok(())
    }

    /// Whether rows are recorded at all.
    pub(super) fn has_records(&self) -> Result<bool> {
        let sql = format!("SELECT EXISTS (SELECT FROM susx.errors e WHERE {OF_THE_TABLE})");
        let found = as_owner(ERRORS, || first(&sql, &[arg(self.relation), arg(self.column.clone())]))?;
        Ok(found.unwrap_or(false))
    }

    /// The places of those rows that are recorded and not to be tried again. Of each there is the key, as in
    /// susx.errors, and who wrote it.
    pub(super) fn recorded<'r>(
        &self,
        rows: impl Iterator<Item = (&'r str, &'r str)>,
        retry: &Retry,
    ) -> Result<HashSet<usize>> {
        let (keys, writers): (Vec<String>, Vec<String>) =
            rows.map(|(key, writer)| (key.to_owned(), writer.to_owned())).unzip();
        let mut places = HashSet::new();
        if keys.is_empty() {
            return Ok(places);
        }
        let since = match retry {
            Retry::Changed => "-infinity",
            Retry::Before(time) => time,
        };
        let sql = format!(
            "SELECT u.ord FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4)) \
             WITH ORDINALITY AS u (key, writer, ord) JOIN susx.errors e ON {OF_THE_TABLE} \
             AND e.key OPERATOR(pg_catalog.=) u.key AND e.row_version OPERATOR(pg_catalog.=) u.writer \
             AND e.\"time\" OPERATOR(pg_catalog.>=) $5::pg_catalog.timestamptz"
        );
        freeing_arguments(|| {
            let table = [arg(self.relation), arg(self.column.clone())];
            let args: Vec<_> =
                table.into_iter().chain([arg(keys), arg(writers), arg(since.to_owned())]).collect();
            as_owner(ERRORS, || {
                spi::read(&sql, &args, |row| {
                    places.extend(usize::try_from(row.required::<i64>(1)? - 1));
                    Ok(true)
                })
            })
        })?;
        Ok(places)
    }
}

const OF_THE_TABLE: &str = "e.relation OPERATOR(pg_catalog.=) $1 \
    AND e.embedding_column OPERATOR(pg_catalog.=) $2::pg_catalog.name";

/// Deletes records of a table that the caller may update: of all columns, and of all keys, where none are named.
/// Where row-level security holds the caller back, of the rows that the caller may update. Returns how many.
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

/// The columns that the caller may update; `None` for all, as of a table that is gone. An error if there are none, or
/// if the one that is named is not among them.
fn updatable(relation: RegClass, column: Option<&str>) -> Result<Option<Vec<String>>> {
    let named = || column.map(|column| vec![column.to_owned()]);
    let sql = "SELECT pg_catalog.has_table_privilege($1, 'UPDATE') IS NOT FALSE";
    if first(sql, &[arg(relation.0)])?.unwrap_or(false) {
        return Ok(named());
    }
    let sql = "SELECT pg_catalog.array_agg(attname::pg_catalog.text) FROM pg_catalog.pg_attribute \
               WHERE attrelid OPERATOR(pg_catalog.=) $1 AND attnum OPERATOR(pg_catalog.>) 0 AND NOT attisdropped \
               AND pg_catalog.has_column_privilege(attrelid, attnum, 'UPDATE')";
    let found: Vec<String> = first(sql, &[arg(relation.0)])?.unwrap_or_default();
    match column {
        None if !found.is_empty() => Ok(Some(found)),
        Some(column) if found.iter().any(|name| name == column) => Ok(named()),
        _ => Err(Error::Permission(relation.name()?)),
    }
}

/// The keys of all records of a table.
fn recorded_keys(relation: RegClass) -> Result<Vec<String>> {
    let sql = "SELECT DISTINCT key FROM susx.errors WHERE relation OPERATOR(pg_catalog.=) $1";
    let mut keys = Vec::new();
    as_owner(ERRORS, || {
        spi::read(sql, &[arg(relation)], |row| {
            keys.push(row.required(1)?);
            Ok(true)
        })
    })?;
    Ok(keys)
}

/// Those of the keys whose rows the caller may update.
fn updatable_rows(relation: RegClass, keys: Vec<String>) -> Result<Vec<String>> {
    let text = key::text("t", &key::of(relation)?);
    // Locked for the sake of the policies alone: so those for UPDATE count, too.
    let sql = format!(
        "SELECT {text} FROM {} t WHERE {text} OPERATOR(pg_catalog.=) ANY ($1) FOR KEY SHARE OF t",
        relation.quoted()?
    );
    with_settings(&EXACT, || {
        freeing_arguments(|| {
            let found = Spi::connect_mut(|client| {
                let rows = client.update(&sql, None, &[arg(keys)])?;
                rows.filter_map(|row| row.get::<String>(1).transpose()).collect::<Result<Vec<_>, _>>()
            })?;
            Ok(found)
        })
    })
}

/// As the owner of susx.errors: a right to delete is one to the whole table, and who has that can lock it against
/// everybody.
fn delete(relation: RegClass, columns: Option<Vec<String>>, keys: Option<Vec<String>>) -> Result<u64> {
    let sql = "DELETE FROM susx.errors WHERE relation OPERATOR(pg_catalog.=) $1 \
               AND ($2 IS NULL OR embedding_column::pg_catalog.text OPERATOR(pg_catalog.=) ANY ($2)) \
               AND ($3 IS NULL OR key OPERATOR(pg_catalog.=) ANY ($3))";
    let deleted =
        freeing_arguments(|| as_owner(ERRORS, || write(sql, &[arg(relation), arg(columns), arg(keys)])))?;
    Ok(deleted as u64)
}

/// The time, as [`Retry::Before`] takes it.
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
