//! Tables of images whose embeddings are to be written.
//!
//! A row is found again by its primary key, and by its version: by where it lies and which transaction
//! wrote it, so that an embedding never goes to a row whose image was changed meanwhile.

use std::ffi::CStr;
use std::ops::ControlFlow;

use pgrx::PgMemoryContexts;
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use super::column::Column;
use super::key::{self, KeyColumn};
use super::{arg, first, with_settings};
use crate::pg::error::{Error, Result};
use crate::pg::image::Image;
use crate::pg::regclass::RegClass;
use crate::pg::spi::{self, Row};
use crate::pg::vector::Vector;

/// A table of images, its columns checked and quoted.
#[derive(Debug)]
pub struct Images {
    pub(super) relation: RegClass,
    /// The name of the column of embeddings.
    pub(super) column: String,
    /// The table's name for messages, and for SQL text.
    pub name: String,
    pub(super) table: String,
    pub(super) image: String,
    pub(super) embedding: String,
    /// What the column of embeddings takes; `None` where it does not say.
    dimensions: Option<usize>,
    pub(super) key: Vec<KeyColumn>,
}

/// Which row it is.
#[derive(Clone, Debug)]
pub struct RowId {
    /// The values of the primary key's columns.
    pub key: Vec<String>,
    /// The key for people and for `susx.errors`.
    pub name: String,
    /// Another one as soon as the row is changed.
    pub version: String,
}

/// Which of the rows that have failed before are tried again.
#[derive(Clone, Debug)]
pub enum Retry {
    /// Those that were changed since.
    Changed,
    /// All that did not fail at this time, a timestamptz, or later.
    Before(String),
}

/// The version of row `t`. By its place, too: a row may be changed twice in one transaction, and a table
/// with children may have several rows of one key.
pub(super) const VERSION: &str = "pg_catalog.concat_ws(' ', t.tableoid, t.ctid, t.xmin)";

/// Who wrote row `t`: what susx.errors knows a version by, since rows are moved without being changed.
pub(super) const WRITER: &str = "t.xmin::pg_catalog.text";

impl Images {
    /// Checks the table, the two columns and what the caller may do, and locks the table against being
    /// changed until the transaction ends.
    pub fn open(relation: RegClass, image_column: &str, embedding_column: &str) -> Result<Self> {
        relation.open_for_reading()?;
        check_kind(relation)?;
        let name = relation.name()?;
        let image = Column::of_images(relation, image_column)?;
        let embedding = Column::of_vectors(relation, embedding_column)?;
        if embedding.is_generated {
            return Err(Error::argument(format!(
                "column \"{embedding_column}\" of relation \"{name}\" is a generated column"
            )));
        }
        if !embedding.is_writable {
            return Err(Error::Permission(name));
        }
        Ok(Images {
            relation,
            column: embedding_column.to_owned(),
            table: relation.quoted()?,
            dimensions: embedding.dimensions(),
            image: image.quoted,
            embedding: embedding.quoted,
            key: key::of(relation)?,
            name,
        })
    }

    /// Whether keys that were read from `other` find their rows here.
    pub fn has_the_key_of(&self, other: &Images) -> bool {
        self.key == other.key
    }

    /// An error if the column does not take vectors of so many dimensions.
    pub fn check_dimensions(&self, found: usize) -> Result<()> {
        match self.dimensions.filter(|&expected| expected != found) {
            None => Ok(()),
            Some(expected) => Err(Error::ColumnDimensions {
                relation: self.name.clone(),
                column: self.column.clone(),
                expected,
                found,
            }),
        }
    }

    /// How many images wait for their embedding.
    pub fn count(&self, retry: &Retry) -> Result<u64> {
        let candidates = self.candidates("");
        if !self.has_records()? {
            let sql = format!("SELECT pg_catalog.count(*) FROM ({candidates}) c");
            return Ok(first::<i64>(&sql, &[])?.map_or(0, i64::unsigned_abs));
        }
        let sql = format!("SELECT c.name, c.writer FROM ({candidates}) c");
        let mut count = 0;
        with_settings(&EXACT, || {
            spi::read_together(&sql, &[], COUNTED, |rows| {
                let found: Vec<(String, String)> =
                    rows.iter().map(|row| Ok((row.required(1)?, row.required(2)?))).collect::<Result<_>>()?;
                let recorded =
                    self.recorded(found.iter().map(|(name, writer)| (&**name, &**writer)), retry)?;
                count += (rows.len() - recorded.len()) as u64;
                Ok(true)
            })
        })?;
        Ok(count)
    }

    /// Shows up to `limit` images that wait for their embedding, in the order of their keys, that follow
    /// the row of key `after`, until `each` breaks off. Returns how many it passed over on the way, since they have
    /// failed before.
    pub fn read(
        &self,
        after: Option<&[String]>,
        retry: &Retry,
        limit: usize,
        mut each: impl FnMut(RowId, Image) -> Result<ControlFlow<()>>,
    ) -> Result<u64> {
        let columns = self.key.len() as i32;
        let after_key = after.map_or(String::new(), |_| format!("AND {} ", self.greater()));
        let order: Vec<String> = self.key.iter().map(|key| format!("t.{}", key.quoted)).collect();
        let sql = self.candidates(&format!("{after_key}ORDER BY {}", order.join(", ")));
        let args: Vec<_> = after.into_iter().flatten().map(|value| arg(value.clone())).collect();
        let (mut shown, mut passed_over) = (0, 0);
        let together = i64::try_from(limit).unwrap_or(i64::MAX).min(LOOKED_UP);
        with_settings(&[&EXACT[..], &BY_INDEX].concat(), || {
            // Of a large image a row holds no more than the place where it lies, until the image is asked for.
            spi::read_together(&sql, &args, together, |rows| {
                let ids: Vec<(RowId, String)> = rows
                    .iter()
                    .map(|row| Ok((self.row_id(row)?, row.required(columns + 3)?)))
                    .collect::<Result<_>>()?;
                let recorded = self.recorded(ids.iter().map(|(id, writer)| (&*id.name, &**writer)), retry)?;
                for (place, (row, (id, _))) in rows.iter().zip(ids).enumerate() {
                    if recorded.contains(&place) {
                        passed_over += 1;
                        continue;
                    }
                    let image = row.required(columns + 4)?;
                    shown += 1;
                    if each(id, image)?.is_break() || shown == limit {
                        return Ok(false);
                    }
                }
                Ok(true)
            })
        })?;
        Ok(passed_over)
    }

    /// Rows `t` with an image but no embedding: the columns of [`row_id`](Self::row_id), who wrote them, the image.
    ///
    /// What susx.errors has of them is looked up apart from this query, which is the caller's: so a caller who may not
    /// see all rows of the table learns of the records of those alone that are seen.
    fn candidates(&self, rest: &str) -> String {
        let Images { table, image, embedding, .. } = self;
        let keys: Vec<String> =
            (1..).zip(&self.key).map(|(i, key)| format!("t.{} AS k{i}", key.quoted)).collect();
        format!(
            "SELECT {}, {} AS name, {VERSION} AS version, {WRITER} AS writer, t.{image} AS image \
             FROM {table} t WHERE t.{embedding} IS NULL AND t.{image} IS NOT NULL {rest}",
            keys.join(", "),
            self.key_text(),
        )
    }

    /// The condition that row `t` comes after the key in the parameters.
    fn greater(&self) -> String {
        let columns: Vec<String> = self.key.iter().map(|key| format!("t.{}", key.quoted)).collect();
        let values: Vec<String> =
            (1..).zip(&self.key).map(|(i, key)| format!("${i}::{}", key.base_type)).collect();
        match &self.key[..] {
            [only] => format!("{} {} {}", columns[0], only.greater, values[0]),
            [first, others @ ..] if others.iter().all(|other| other.greater == first.greater) => {
                format!("ROW({}) {} ROW({})", columns.join(", "), first.greater, values.join(", "))
            }
            // A comparison of rows has one operator for all columns. Without it only the first column
            // limits what of the index is read.
            keys => {
                let mut condition = String::new();
                for (i, key) in keys.iter().enumerate().rev() {
                    let greater = format!("{} {} {}", columns[i], key.greater, values[i]);
                    condition = match condition.is_empty() {
                        true => greater,
                        false => format!(
                            "({greater} OR {} {} {} AND {condition})",
                            columns[i], key.equal, values[i]
                        ),
                    };
                }
                format!("NOT {} {} {} AND {condition}", values[0], keys[0].greater, columns[0])
            }
        }
    }

    /// The text of the key of row `t`.
    pub(super) fn key_text(&self) -> String {
        key::text("t", &self.key)
    }

    /// The first columns of a row that was read: the key, its text, the version.
    pub(super) fn row_id(&self, row: &Row) -> Result<RowId> {
        let key: Option<Vec<String>> = (1..).zip(&self.key).map(|(i, _)| row.text(i)).collect();
        let key = key.ok_or_else(|| Error::Internal("a primary key is NULL".to_owned()))?;
        let next = key.len() as i32 + 1;
        Ok(RowId { key, name: row.required(next)?, version: row.required(next + 1)? })
    }

    /// Writes embeddings, or NULL, to rows that are still as they were read; returns the places of those
    /// that were written.
    ///
    /// A row that somebody else is changing at the moment is not waited for: so neither can wait for the
    /// other, and who changes many rows does not hold this up.
    pub fn write(&self, rows: &[&RowId], embeddings: Vec<Option<Vector>>) -> Result<Vec<usize>> {
        let Images { table, embedding, .. } = self;
        let joined = self.joined("t", "u");
        let sql = format!(
            "WITH locked AS MATERIALIZED (SELECT u.* FROM {} JOIN {table} t ON {joined} \
             WHERE {VERSION} OPERATOR(pg_catalog.=) u.version FOR NO KEY UPDATE OF t SKIP LOCKED) \
             UPDATE {table} t SET {embedding} = u.embedding FROM locked u \
             WHERE {joined} AND {VERSION} OPERATOR(pg_catalog.=) u.version RETURNING u.ord",
            self.unnest(&["version", "embedding"]),
        );
        freeing_arguments(|| {
            let mut args = self.row_args(rows);
            args.push(arg(embeddings));
            let mut written = Vec::with_capacity(rows.len());
            self.finding_rows(|| {
                Spi::connect_mut(|client| {
                    for row in client.update(&sql, None, &args)? {
                        written.extend(row.get::<i64>(1)?.and_then(|ord| usize::try_from(ord - 1).ok()));
                    }
                    Ok::<_, pgrx::spi::Error>(())
                })?;
                Ok(())
            })?;
            Ok(written)
        })
    }

    /// Runs a statement that finds rows again by their exact keys. Those are read as the same values whatever the
    /// caller's settings are, so they are left: writing has triggers. Only amounts of money depend on a setting.
    pub(super) fn finding_rows<T>(&self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let has_money = self.key.iter().any(|key| key.base_type == key::MONEY);
        with_settings(if has_money { &[MONEY] } else { &[] }, call)
    }

    /// Rows `u` out of arrays: the columns of the key, others of these names, and `ord`, their number.
    pub(super) fn unnest(&self, others: &[&str]) -> String {
        let mut names: Vec<String> = (1..=self.key.len()).map(|i| format!("k{i}")).collect();
        names.extend(others.iter().map(|&name| name.to_owned()));
        let arrays: Vec<String> = (1..=names.len()).map(|i| format!("pg_catalog.unnest(${i})")).collect();
        format!("ROWS FROM ({}) WITH ORDINALITY AS u ({}, ord)", arrays.join(", "), names.join(", "))
    }

    /// The arrays of the keys and of the versions.
    pub(super) fn row_args<'a>(&self, rows: &[&RowId]) -> Vec<DatumWithOid<'a>> {
        let keys = (0..self.key.len()).map(|i| rows.iter().map(|row| row.key[i].clone()).collect());
        let versions = rows.iter().map(|row| row.version.clone()).collect();
        keys.chain([versions]).map(|texts: Vec<String>| arg(texts)).collect()
    }

    /// The condition that a row of the table has the key in `keys`, a result of [`unnest`](Self::unnest).
    pub(super) fn joined(&self, row: &str, keys: &str) -> String {
        let equal = (1..)
            .zip(&self.key)
            .map(|(i, key)| format!("{row}.{} {} {keys}.k{i}::{}", key.quoted, key.equal, key.base_type));
        equal.collect::<Vec<_>>().join(" AND ")
    }

    /// The condition that two rows of the table have the same key.
    pub(super) fn same_key(&self, row: &str, other: &str) -> String {
        let equal = self.key.iter().map(|key| format!("{row}.{0} {1} {other}.{0}", key.quoted, key.equal));
        equal.collect::<Vec<_>>().join(" AND ")
    }
}

/// Rows whose records are looked up together, where their images are read, and where they are counted.
const LOOKED_UP: i64 = 64;
const COUNTED: i64 = 1000;

/// How a key is written and read again without loss, and the same in every session.
pub(super) const EXACT: [(&CStr, &CStr); 6] = [
    (c"DateStyle", c"ISO"),
    (c"IntervalStyle", c"iso_8601"),
    (c"TimeZone", c"UTC"),
    (c"extra_float_digits", c"1"),
    (c"bytea_output", c"hex"),
    MONEY,
];

const MONEY: (&CStr, &CStr) = (c"lc_monetary", c"C");

/// The order of the key's index, whatever PostgreSQL believes about the rows that are left: a table that is
/// nearly done would be read as a whole for each batch.
const BY_INDEX: [(&CStr, &CStr); 4] = [
    (c"enable_seqscan", c"off"),
    (c"enable_bitmapscan", c"off"),
    (c"enable_sort", c"off"),
    // It would be for the costs that PostgreSQL gives to what is off.
    (c"jit", c"off"),
];

/// Runs a statement whose arguments are made in `call`, and frees them.
pub(super) fn freeing_arguments<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: what leaves the context is what Rust has allocated.
    unsafe { PgMemoryContexts::new("susx images").switch_to(|_| call()) }
}

fn check_kind(relation: RegClass) -> Result<()> {
    // SAFETY: the relation is locked, so it exists.
    let (kind, persistence, is_catalog) = unsafe {
        (
            pg_sys::get_rel_relkind(relation.0) as u8,
            pg_sys::get_rel_persistence(relation.0) as u8,
            pg_sys::IsCatalogRelationOid(relation.0),
        )
    };
    let what = match kind {
        _ if is_catalog => "a system catalog",
        _ if persistence == pg_sys::RELPERSISTENCE_TEMP => "a temporary table",
        pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE => return Ok(()),
        pg_sys::RELKIND_VIEW => "a view",
        pg_sys::RELKIND_MATVIEW => "a materialized view",
        pg_sys::RELKIND_FOREIGN_TABLE => "a foreign table",
        _ => "no table",
    };
    Err(Error::NotImages { relation: relation.name()?, what })
}
