//! Rows with their vectors and labels, in the order of their keys.

use super::{LabelRow, LabelTable};
use crate::batches::FETCHED_ROWS;
use crate::pg::catalog::session_settings::{BY_INDEX, EXACT_TEXT, with_settings};
use crate::pg::error::{Error, Result};
use crate::pg::spi::{self, arg, first};

/// The first and the last key of the rows that a call labels, as text.
#[derive(Clone, Debug, Default)]
pub struct KeyRange {
    pub first: Option<String>,
    pub last: Option<String>,
}

impl KeyRange {
    pub fn is_all(&self) -> bool {
        self.first.is_none() && self.last.is_none()
    }
}

/// Which rows a call reads.
#[derive(Clone, Debug)]
pub struct Selection {
    pub range: KeyRange,
    /// Only rows without a label.
    pub only_unlabelled: bool,
}

impl LabelTable {
    /// An error if the table's key is not of one column, which a range takes.
    pub fn check_range(&self, range: &KeyRange) -> Result<()> {
        match self.key.len() {
            1 => Ok(()),
            _ if range.is_all() => Ok(()),
            columns => Err(Error::argument(format!(
                "first_key and last_key take a primary key of one column, and that of \"{}\" has {columns}",
                self.name
            ))),
        }
    }

    /// The number of rows.
    pub fn count(&self, selection: &Selection) -> Result<u64> {
        let (conditions, args) = self.conditions(selection, 1);
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM {} t WHERE {}",
            self.table,
            [vec!["true".to_owned()], conditions].concat().join(" AND ")
        );
        let args: Vec<_> = args.into_iter().map(arg).collect();
        Ok(first::<i64>(&sql, &args)?.map_or(0, i64::unsigned_abs))
    }

    /// The next rows after the key, up to `most`, or fewer once their vectors have `most_bytes`.
    pub fn read(
        &self,
        after: Option<&[String]>,
        selection: &Selection,
        most: usize,
        most_bytes: usize,
    ) -> Result<Vec<LabelRow>> {
        let mut conditions = vec!["true".to_owned()];
        let mut args: Vec<String> = after.into_iter().flatten().cloned().collect();
        conditions.extend(after.map(|_| self.greater()));
        let (selected, more) = self.conditions(selection, args.len() + 1);
        conditions.extend(selected);
        args.extend(more);
        let sql = format!(
            "SELECT {} FROM {} t WHERE {} ORDER BY {}",
            self.selected(),
            self.table,
            conditions.join(" AND "),
            self.key_columns().join(", ")
        );
        let args: Vec<_> = args.into_iter().map(arg).collect();
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let together = i64::try_from(most).unwrap_or(i64::MAX).min(FETCHED_ROWS);
        with_settings(&[&EXACT_TEXT[..], &BY_INDEX].concat(), || {
            spi::read_batches(&sql, &args, together, |found| {
                for row in found {
                    let row = self.row(row)?;
                    bytes += row.size();
                    rows.push(row);
                    if rows.len() >= most || bytes >= most_bytes {
                        return Ok(false);
                    }
                }
                Ok(true)
            })
        })?;
        Ok(rows)
    }

    /// Passes all rows to `each`, some at a time.
    pub fn read_all(&self, mut each: impl FnMut(Vec<LabelRow>) -> Result<()>) -> Result<()> {
        let sql = format!("SELECT {} FROM {} t", self.selected(), self.table);
        with_settings(&EXACT_TEXT, || {
            spi::read_batches(&sql, &[], FETCHED_ROWS, |rows| {
                each(rows.iter().map(|row| self.row(row)).collect::<Result<_>>()?)?;
                Ok(true)
            })
        })
    }

    /// The conditions of a selection, and their parameters from number `next` on.
    fn conditions(&self, selection: &Selection, next: usize) -> (Vec<String>, Vec<String>) {
        let (mut conditions, mut args) = (Vec::new(), Vec::new());
        if selection.only_unlabelled {
            conditions.push(format!("t.{} IS NULL", self.label));
        }
        let key = &self.key[0];
        let column = format!("t.{}", key.quoted);
        let KeyRange { first, last } = &selection.range;
        if let Some(first) = first {
            conditions.push(format!(
                "NOT ${}::{} {} {column}",
                next + args.len(),
                key.base_type,
                key.greater
            ));
            args.push(first.clone());
        }
        if let Some(last) = last {
            conditions.push(format!(
                "NOT {column} {} ${}::{}",
                key.greater,
                next + args.len(),
                key.base_type
            ));
            args.push(last.clone());
        }
        (conditions, args)
    }
}

impl LabelRow {
    /// Bytes of the vectors and the label.
    pub fn size(&self) -> usize {
        let vectors = [&self.embedding, &self.likeness].into_iter().flatten();
        let numbers: usize = vectors.map(|vector| vector.0.len()).sum();
        numbers * size_of::<f32>() + self.label.as_ref().map_or(0, String::len)
    }
}
