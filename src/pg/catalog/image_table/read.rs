//! Images that need an embedding, in the order of their keys.

use std::ops::ControlFlow;

use super::ImageTable;
use super::verified::Verified;
use crate::batches::{COUNTED_ROWS, FAILURE_LOOKUP_ROWS, PASSED_OVER_ROWS};
use crate::pg::catalog::keyed_table::{RowId, VERSION, WRITER};
use crate::pg::catalog::session_settings::{BY_INDEX, EXACT_TEXT, with_settings};
use crate::pg::error::{Error, Result};
use crate::pg::image::Image;
use crate::pg::spi::{self, Row, arg, first};
use crate::pg::vector::Vector;

/// Which of the rows with a record in `susx.errors` are tried again.
#[derive(Clone, Debug)]
pub enum Retry {
    /// Those that were changed since they failed.
    Changed,
    /// All that failed before this time, a timestamptz.
    Before(String),
}

/// Which rows are read.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// Those without an embedding.
    Missing,
    /// Also those with one that may be that of another image.
    MissingOrUnverified(&'a Verified),
}

/// An image that needs an embedding.
#[derive(Debug)]
pub struct FoundImage {
    pub id: RowId,
    pub image: Image,
    /// The row's embedding, which may be that of another image.
    pub embedding: Option<Vector>,
}

/// How a part of a table was read.
#[derive(Debug, Default)]
pub struct ReadRows {
    /// The key of the last row that was looked at; `None` if there was none.
    pub last: Option<Vec<String>>,
    /// Rows that failed before and were not read.
    pub skipped: u64,
}

/// A row of [`ImageTable::candidates`] before its image is read.
struct Candidate {
    id: RowId,
    writer: String,
    is_wanted: bool,
}

impl ImageTable {
    /// The number of images to embed or to check.
    pub fn count(&self, retry: &Retry, wanted: Wanted) -> Result<u64> {
        let candidates = self.candidates(wanted, "");
        if matches!(wanted, Wanted::Missing) && !self.has_records()? {
            let sql = format!("SELECT pg_catalog.count(*) FROM ({candidates}) c");
            return Ok(first::<i64>(&sql, &[])?.map_or(0, i64::unsigned_abs));
        }
        let keys: Vec<String> = (1..=self.key.len()).map(|i| format!("c.k{i}")).collect();
        let sql = format!(
            "SELECT {}, c.name, c.version, c.writer, c.place, c.embedding IS NULL FROM ({candidates}) c",
            keys.join(", ")
        );
        let mut count = 0;
        with_settings(&EXACT_TEXT, || {
            spi::read_batches(&sql, &[], COUNTED_ROWS, |rows| {
                let after = self.key.len() as i32 + 3;
                let found = rows.iter().map(|row| {
                    let is_missing = row.required(after + 2)?;
                    self.candidate(row, wanted, is_missing)
                });
                let found: Vec<Candidate> = found.collect::<Result<_>>()?;
                let found: Vec<&Candidate> = found.iter().filter(|row| row.is_wanted).collect();
                let failed =
                    self.failed_before(found.iter().map(|row| (&*row.id.name, &*row.writer)), retry)?;
                count += (found.len() - failed.len()) as u64;
                Ok(true)
            })
        })?;
        Ok(count)
    }

    /// Passes up to `limit` images to `each`, in the order of their keys, until that breaks off. They follow the row whose
    /// key is `after`. Ends before that where very many rows are passed over, so that no transaction takes long.
    pub fn read(
        &self,
        after: Option<&[String]>,
        retry: &Retry,
        wanted: Wanted,
        limit: usize,
        mut each: impl FnMut(FoundImage) -> Result<ControlFlow<()>>,
    ) -> Result<ReadRows> {
        let columns = self.key.len() as i32;
        let after_key = after.map_or(String::new(), |_| format!("AND {} ", self.greater()));
        let sql = self.candidates(wanted, &format!("{after_key}ORDER BY {}", self.key_columns().join(", ")));
        let args: Vec<_> = after.into_iter().flatten().map(|value| arg(value.clone())).collect();
        let (mut shown, mut seen, mut read) = (0, 0, ReadRows::default());
        let together = i64::try_from(limit).unwrap_or(i64::MAX).min(FAILURE_LOOKUP_ROWS);
        with_settings(&[&EXACT_TEXT[..], &BY_INDEX].concat(), || {
            // A row holds a large image by reference only, until `required` reads it.
            spi::read_batches(&sql, &args, together, |rows| {
                let found = rows.iter().map(|row| self.candidate(row, wanted, row.is_null(columns + 6)));
                let found: Vec<Candidate> = found.collect::<Result<_>>()?;
                let wanted: Vec<usize> = (0..found.len()).filter(|&i| found[i].is_wanted).collect();
                let pairs = wanted.iter().map(|&i| (&*found[i].id.name, &*found[i].writer));
                let failed = self.failed_before(pairs, retry)?;
                let failed: Vec<usize> = failed.into_iter().map(|index| wanted[index]).collect();
                for (index, (row, candidate)) in rows.iter().zip(found).enumerate() {
                    let Candidate { id, is_wanted, .. } = candidate;
                    seen += 1;
                    read.last = Some(id.key.clone());
                    if !is_wanted || failed.contains(&index) {
                        read.skipped += u64::from(is_wanted);
                        continue;
                    }
                    let (image, embedding) = (row.required(columns + 5)?, row.vector(columns + 6)?);
                    shown += 1;
                    if each(FoundImage { id, image, embedding })?.is_break() || shown == limit {
                        return Ok(false);
                    }
                }
                Ok(seen < PASSED_OVER_ROWS)
            })
        })?;
        Ok(read)
    }

    fn candidate(&self, row: &Row, wanted: Wanted, is_missing: bool) -> Result<Candidate> {
        let next = self.key.len() as i32 + 3;
        let (id, writer): (RowId, String) = (self.row_id(row)?, row.required(next)?);
        let is_wanted = match wanted {
            Wanted::Missing => true,
            Wanted::MissingOrUnverified(verified) => {
                let table: pgrx::pg_sys::Oid = row.required(next + 1)?;
                let number = writer.parse().map_err(Error::internal)?;
                is_missing || !verified.includes(table, number, &id.name)
            }
        };
        Ok(Candidate { id, writer, is_wanted })
    }

    /// Rows `t` with an image: the columns of [`row_id`](Self::row_id), the writer, the table, the image, the embedding.
    ///
    /// This query runs with the caller's rights, and the records in susx.errors are looked up apart from it: so a
    /// caller who may not see all rows of the table learns only of the records of those that the caller sees.
    fn candidates(&self, wanted: Wanted, rest: &str) -> String {
        let ImageTable { image, embedding, .. } = self;
        let table = &self.table;
        let keys: Vec<String> =
            (1..).zip(&self.key).map(|(i, key)| format!("t.{} AS k{i}", key.quoted)).collect();
        let is_missing = match wanted {
            Wanted::Missing => format!("t.{embedding} IS NULL AND "),
            Wanted::MissingOrUnverified(_) => String::new(),
        };
        format!(
            "SELECT {}, {} AS name, {VERSION} AS version, {WRITER} AS writer, t.tableoid AS place, \
             t.{image} AS image, t.{embedding} AS embedding \
             FROM {table} t WHERE {is_missing}t.{image} IS NOT NULL {rest}",
            keys.join(", "),
            self.key_text(),
        )
    }
}
