//! Images that have no embedding yet, in the order of their keys.

use std::ops::ControlFlow;

use super::ImageTable;
use crate::batches::{COUNTED_ROWS, FAILURE_LOOKUP_ROWS};
use crate::pg::catalog::keyed_table::{RowId, VERSION, WRITER};
use crate::pg::catalog::session_settings::{BY_INDEX, EXACT_TEXT, with_settings};
use crate::pg::error::Result;
use crate::pg::image::Image;
use crate::pg::spi::{self, arg, first};

/// Which of the rows that `susx.errors` has a record of are tried again.
#[derive(Clone, Debug)]
pub enum Retry {
    /// Those that were changed since they failed.
    Changed,
    /// All that failed before this time, a timestamptz.
    Before(String),
}

impl ImageTable {
    /// The number of images that have no embedding and are to be tried.
    pub fn count(&self, retry: &Retry) -> Result<u64> {
        let candidates = self.candidates("");
        if !self.has_records()? {
            let sql = format!("SELECT pg_catalog.count(*) FROM ({candidates}) c");
            return Ok(first::<i64>(&sql, &[])?.map_or(0, i64::unsigned_abs));
        }
        let sql = format!("SELECT c.name, c.writer FROM ({candidates}) c");
        let mut count = 0;
        with_settings(&EXACT_TEXT, || {
            spi::read_batches(&sql, &[], COUNTED_ROWS, |rows| {
                let found: Vec<(String, String)> =
                    rows.iter().map(|row| Ok((row.required(1)?, row.required(2)?))).collect::<Result<_>>()?;
                let failed =
                    self.failed_before(found.iter().map(|(name, writer)| (&**name, &**writer)), retry)?;
                count += (rows.len() - failed.len()) as u64;
                Ok(true)
            })
        })?;
        Ok(count)
    }

    /// Passes up to `limit` images without an embedding to `each`, in the order of their keys, until that breaks off.
    /// They follow the row whose key is `after`. Returns how many images were skipped because they failed before.
    pub fn read(
        &self,
        after: Option<&[String]>,
        retry: &Retry,
        limit: usize,
        mut each: impl FnMut(RowId, Image) -> Result<ControlFlow<()>>,
    ) -> Result<u64> {
        let columns = self.key.len() as i32;
        let after_key = after.map_or(String::new(), |_| format!("AND {} ", self.greater()));
        let sql = self.candidates(&format!("{after_key}ORDER BY {}", self.key_columns().join(", ")));
        let args: Vec<_> = after.into_iter().flatten().map(|value| arg(value.clone())).collect();
        let (mut shown, mut skipped) = (0, 0);
        let together = i64::try_from(limit).unwrap_or(i64::MAX).min(FAILURE_LOOKUP_ROWS);
        with_settings(&[&EXACT_TEXT[..], &BY_INDEX].concat(), || {
            // A row holds a large image by reference only, until `required` reads it.
            spi::read_batches(&sql, &args, together, |rows| {
                let ids: Vec<(RowId, String)> = rows
                    .iter()
                    .map(|row| Ok((self.row_id(row)?, row.required(columns + 3)?)))
                    .collect::<Result<_>>()?;
                let failed =
                    self.failed_before(ids.iter().map(|(id, writer)| (&*id.name, &**writer)), retry)?;
                for (index, (row, (id, _))) in rows.iter().zip(ids).enumerate() {
                    if failed.contains(&index) {
                        skipped += 1;
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
        Ok(skipped)
    }

    /// Rows `t` with an image but no embedding: the columns of [`row_id`](Self::row_id), the writer, the image.
    ///
    /// This query runs with the caller's rights, and the records in susx.errors are looked up apart from it: so a
    /// caller who may not see all rows of the table learns only of the records of those that the caller sees.
    fn candidates(&self, rest: &str) -> String {
        let ImageTable { image, embedding, .. } = self;
        let table = &self.table;
        let keys: Vec<String> =
            (1..).zip(&self.key).map(|(i, key)| format!("t.{} AS k{i}", key.quoted)).collect();
        format!(
            "SELECT {}, {} AS name, {VERSION} AS version, {WRITER} AS writer, t.{image} AS image \
             FROM {table} t WHERE t.{embedding} IS NULL AND t.{image} IS NOT NULL {rest}",
            keys.join(", "),
            self.key_text(),
        )
    }
}
