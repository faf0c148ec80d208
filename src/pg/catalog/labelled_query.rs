//! Labelled queries: SQL that the caller wrote, whose rows are an image or an embedding and a category, perhaps with a
//! likeness vector.

use std::cell::Cell;

use pgrx::{PgSqlErrorCode, pg_sys};

use super::input::{InputKind, InputValue, check_likeness};
use super::vector_hint;
use crate::batches::FETCHED_ROWS;
use crate::limits;
use crate::pg::error::{Error, Result, SqlError};
use crate::pg::spi::{self, Columns};
use crate::pg::types::{base_type, type_name};
use crate::pg::vector::Vector;

/// A query of this kind.
const EXAMPLE: &str = "SELECT embedding, category FROM images";

/// Why a labelled query cannot be used.
#[derive(Debug, thiserror::Error)]
enum LabelledQueryError {
    #[error(
        "a labelled query must have two columns, an image or embedding and a category, or a third, a likeness vector, not \
         {0}"
    )]
    Count(i32),
    #[error("the first column of a labelled query must be of type bytea or vector, not {found}")]
    Type { found: String, hint: Option<String> },
    #[error("the third column of a labelled query {0}")]
    Likeness(String),
}

impl SqlError for LabelledQueryError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH
    }

    fn hint(&self) -> Option<String> {
        match self {
            LabelledQueryError::Type { hint: Some(hint), .. } => Some(hint.clone()),
            _ => Some(format!("Example: '{EXAMPLE}'.")),
        }
    }
}

/// What the columns of a labelled query hold.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    pub kind: InputKind,
    pub has_likeness: bool,
}

/// A row of a labelled query.
#[derive(Debug)]
pub struct LabelledRow {
    /// Counted from 1.
    pub number: u64,
    /// `None` for NULL.
    pub input: Option<InputValue>,
    pub likeness: Option<Vector>,
    /// `None` for NULL: an image of none of the categories.
    pub category: Option<String>,
}

/// Passes the rows of a query to `each`. The query runs with the snapshot of the running statement and the caller's
/// rights. Its columns are checked before the first row; then `begin` gets what they hold and the number of rows that
/// the planner expects, and may reject them.
pub fn read(
    query: &str,
    begin: impl FnOnce(Inputs, Option<u64>) -> Result<()>,
    mut each: impl FnMut(LabelledRow) -> Result<()>,
) -> Result<()> {
    let inputs = Cell::new(Inputs { kind: InputKind::Embedding, has_likeness: false });
    let is_padded = Cell::new(false);
    let mut number = 0;
    let open = |columns: &Columns| {
        inputs.set(check(columns)?);
        begin(inputs.get(), columns.expected_rows())?;
        is_padded.set(base_type(columns.type_oid(2)) == pg_sys::BPCHAROID);
        // Images, which may be large, are fetched one by one.
        Ok(if inputs.get().kind == InputKind::Image { 1 } else { FETCHED_ROWS })
    };
    spi::read_user_query(query, EXAMPLE, open, |row| {
        number += 1;
        let in_row = |error: Error| error.in_row(number);
        limits::check_bytes("a category", limits::TEXT_BYTES, row.size(2)).map_err(in_row)?;
        let mut category = row.text(2).map_err(in_row)?;
        if let (Some(category), true) = (&mut category, is_padded.get()) {
            category.truncate(category.trim_end_matches(' ').len());
        }
        let Inputs { kind, has_likeness } = inputs.get();
        let likeness = if has_likeness { row.vector(3)? } else { None };
        each(LabelledRow { number, input: InputValue::read(row, 1, kind)?, likeness, category })?;
        Ok(true)
    })
}

fn check(columns: &Columns) -> Result<Inputs> {
    if !(2..=3).contains(&columns.count()) {
        return Err(LabelledQueryError::Count(columns.count()).into());
    }
    let found = columns.type_oid(1);
    let kind = InputKind::of_type(found).ok_or_else(|| LabelledQueryError::Type {
        found: type_name(found),
        hint: vector_hint::of_query(found),
    })?;
    let has_likeness = columns.count() == 3;
    if has_likeness {
        check_likeness(kind, columns.type_oid(3)).map_err(LabelledQueryError::Likeness)?;
    }
    Ok(Inputs { kind, has_likeness })
}
