//! Labelled queries: SQL that the caller wrote, whose rows are an image or an embedding and a category.

use std::cell::Cell;

use pgrx::pg_sys;

use super::input::{InputKind, InputValue};
use crate::batches::FETCHED_ROWS;
use crate::limits;
use crate::pg::error::{Error, Result};
use crate::pg::spi::{self, Columns};
use crate::pg::types::{base_type, type_name};

/// A row of a labelled query.
#[derive(Debug)]
pub struct LabelledRow {
    /// Counted from 1.
    pub number: u64,
    /// `None` for NULL.
    pub input: Option<InputValue>,
    pub category: String,
}

/// Passes the rows of a query to `each`. The query runs with the snapshot of the running statement and the caller's
/// rights. Its columns are checked before the first row; then `begin` gets what the first column holds and the number
/// of rows that the planner expects, and may refuse them.
pub fn read(
    query: &str,
    begin: impl FnOnce(InputKind, Option<u64>) -> Result<()>,
    mut each: impl FnMut(LabelledRow) -> Result<()>,
) -> Result<()> {
    let kind = Cell::new(InputKind::Embedding);
    let is_padded = Cell::new(false);
    let mut number = 0;
    let open = |columns: &Columns| {
        kind.set(check(columns)?);
        begin(kind.get(), columns.expected_rows())?;
        is_padded.set(base_type(columns.type_oid(2)) == pg_sys::BPCHAROID);
        // Images, which may be large, are fetched one by one.
        Ok(if kind.get() == InputKind::Image { 1 } else { FETCHED_ROWS })
    };
    spi::read_user_query(query, open, |row| {
        number += 1;
        let at_row = |source| Error::Row { row: number, source: Box::new(source) };
        limits::check_bytes("a category", limits::TEXT_BYTES, row.size(2)).map_err(at_row)?;
        let mut category = row.text(2).ok_or(Error::NoLabel(number))?;
        if is_padded.get() {
            category.truncate(category.trim_end_matches(' ').len());
        }
        each(LabelledRow { number, input: InputValue::read(row, 1, kind.get())?, category })?;
        Ok(true)
    })
}

fn check(columns: &Columns) -> Result<InputKind> {
    if columns.count() != 2 {
        return Err(Error::Columns(format!(
            "a labelled query must have two columns, an image or embedding and a category, not {}",
            columns.count()
        )));
    }
    let found = columns.type_oid(1);
    InputKind::of_type(found).ok_or_else(|| {
        Error::Columns(format!(
            "the first column of a labelled query must be of type bytea or vector, not {}",
            type_name(found)
        ))
    })
}
