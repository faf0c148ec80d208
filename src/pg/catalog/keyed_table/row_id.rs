//! Which row of a table it is, and in which version.

use pgrx::Spi;
use pgrx::datum::DatumWithOid;

use super::KeyedTable;
use crate::pg::catalog::key;
use crate::pg::catalog::session_settings::{EXACT_MONEY, with_settings};
use crate::pg::error::{Error, Result};
use crate::pg::spi::{Row, arg};

/// A row, by its key and version.
#[derive(Clone, Debug)]
pub struct RowId {
    /// The values of the primary key's columns.
    pub key: Vec<String>,
    /// The key as people see it, and as `susx.errors` identifies the row.
    pub name: String,
    /// A text that changes whenever the row does.
    pub version: String,
}

/// The version of row `t`. It includes the row's place, because a row may be changed twice in one transaction, and
/// because a table with children may have several rows of one key.
pub(in crate::pg::catalog) const VERSION: &str = "pg_catalog.concat_ws(' ', t.tableoid, t.ctid, t.xmin)";

/// The transaction that wrote row `t`. susx.errors keeps this as the row's version, since rows may be moved without
/// being changed.
pub(in crate::pg::catalog) const WRITER: &str = "t.xmin::pg_catalog.text";

impl KeyedTable {
    /// The SQL expression of the key of row `t` as text.
    pub(in crate::pg::catalog) fn key_text(&self) -> String {
        key::text("t", &self.key)
    }

    /// The id in a row's first columns: those of the key, the key as text, the version.
    pub(in crate::pg::catalog) fn row_id(&self, row: &Row) -> Result<RowId> {
        let key: Result<Vec<Option<String>>> = (1..).zip(&self.key).map(|(i, _)| row.text(i)).collect();
        let key: Option<Vec<String>> = key?.into_iter().collect();
        let key = key.ok_or_else(|| Error::internal("a primary key is NULL"))?;
        let next = key.len() as i32 + 1;
        Ok(RowId { key, name: row.required(next)?, version: row.required(next + 1)? })
    }

    /// Rows `u` made of array arguments: the key's columns `k1`, `k2` and so on, columns of the names in `others`, and
    /// `ord`, the row's number from 1.
    pub(in crate::pg::catalog) fn unnest(&self, others: &[&str]) -> String {
        let mut names: Vec<String> = (1..=self.key.len()).map(|i| format!("k{i}")).collect();
        names.extend(others.iter().map(|&name| name.to_owned()));
        let arrays: Vec<String> = (1..=names.len()).map(|i| format!("pg_catalog.unnest(${i})")).collect();
        format!("ROWS FROM ({}) WITH ORDINALITY AS u ({}, ord)", arrays.join(", "), names.join(", "))
    }

    /// The arguments of [`unnest`](Self::unnest) for the keys and, as the first of the others, the versions.
    pub(in crate::pg::catalog) fn row_args<'a>(&self, rows: &[&RowId]) -> Vec<DatumWithOid<'a>> {
        let keys = (0..self.key.len()).map(|i| rows.iter().map(|row| row.key[i].clone()).collect());
        let versions = rows.iter().map(|row| row.version.clone()).collect();
        keys.chain([versions]).map(|texts: Vec<String>| arg(texts)).collect()
    }

    /// The condition that a row of the table has the key in `keys`, a result of [`unnest`](Self::unnest).
    pub(in crate::pg::catalog) fn joined(&self, row: &str, keys: &str) -> String {
        let equal = (1..)
            .zip(&self.key)
            .map(|(i, key)| format!("{row}.{} {} {keys}.k{i}::{}", key.quoted, key.equal, key.base_type));
        equal.collect::<Vec<_>>().join(" AND ")
    }

    /// The condition that two rows of the table have the same key.
    pub(in crate::pg::catalog) fn same_key(&self, row: &str, other: &str) -> String {
        let equal = self.key.iter().map(|key| format!("{row}.{0} {1} {other}.{0}", key.quoted, key.equal));
        equal.collect::<Vec<_>>().join(" AND ")
    }

    /// Runs a statement that finds rows by keys which were read as exact text. Such text is read as the same value
    /// under all settings, except for amounts of money. Other settings stay the caller's, because triggers of the
    /// statement see them.
    pub(in crate::pg::catalog) fn finding_rows<T>(&self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let has_money = self.key.iter().any(|key| key.base_type == key::MONEY);
        with_settings(if has_money { &[EXACT_MONEY] } else { &[] }, call)
    }

    /// Runs a statement that writes rows of [`unnest`](Self::unnest) and returns their numbers, `ord`. Returns the indices
    /// of these rows.
    pub(in crate::pg::catalog) fn written(&self, sql: &str, args: &[DatumWithOid]) -> Result<Vec<usize>> {
        let mut written = Vec::new();
        self.finding_rows(|| {
            Spi::connect_mut(|client| {
                for row in client.update(sql, None, args)? {
                    written.extend(row.get::<i64>(1)?.and_then(|ord| usize::try_from(ord - 1).ok()));
                }
                Ok::<_, pgrx::spi::Error>(())
            })?;
            Ok(())
        })?;
        Ok(written)
    }
}
