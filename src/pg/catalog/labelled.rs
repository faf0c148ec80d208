//! Labelled queries: SQL that the caller wrote, whose rows are an image or an embedding and a category.

use std::cell::Cell;

use pgrx::pg_sys;

use super::{type_name, vector_type};
use crate::limits;
use crate::pg::error::{Error, Result};
use crate::pg::image::Image;
use crate::pg::spi::{self, Columns};
use crate::pg::vector::Vector;

/// Embeddings that are brought at a time. Images, which may be large, come one by one.
const FETCH: i64 = 256;

/// What the first column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Embedding,
    Image,
}

/// The value of the first column.
#[derive(Debug)]
pub enum Input {
    Embedding(Vector),
    Image(Image),
}

/// A row.
#[derive(Debug)]
pub struct Labelled {
    /// Counted from 1.
    pub number: u64,
    /// `None` for NULL.
    pub input: Option<Input>,
    pub category: String,
}

/// Shows the rows of a query, with the snapshot of the running statement and the caller's rights. Its
/// columns are checked before the first row, and `begin` may refuse what the first one holds. It also
/// gets the number of rows that the planner expects.
pub fn read(
    query: &str,
    begin: impl FnOnce(Kind, Option<u64>) -> Result<()>,
    mut each: impl FnMut(Labelled) -> Result<()>,
) -> Result<()> {
    let kind = Cell::new(Kind::Embedding);
    let is_padded = Cell::new(false);
    let mut number = 0;
    let open = |columns: &Columns| {
        kind.set(check(columns)?);
        begin(kind.get(), columns.expected_rows())?;
        // SAFETY: the OID is of a type that exists.
        is_padded.set(unsafe { pg_sys::getBaseType(columns.type_oid(2)) } == pg_sys::BPCHAROID);
        Ok(if kind.get() == Kind::Image { 1 } else { FETCH })
    };
    spi::read_callers(query, open, |row| {
        number += 1;
        let at_row = |source| Error::Row { row: number, source: Box::new(source) };
        limits::check_bytes("a category", limits::TEXT_BYTES, row.size(2)).map_err(at_row)?;
        let mut category = row.text(2).ok_or(Error::NoLabel(number))?;
        if is_padded.get() {
            category.truncate(category.trim_end_matches(' ').len());
        }
        let input = match kind.get() {
            Kind::Embedding => row.get(1)?.map(Input::Embedding),
            Kind::Image => row.get(1)?.map(Input::Image),
        };
        each(Labelled { number, input, category })?;
        Ok(true)
    })
}

fn check(columns: &Columns) -> Result<Kind> {
    if columns.count() != 2 {
        return Err(Error::Columns(format!(
            "a labelled query must have two columns, an image or embedding and a category, not {}",
            columns.count()
        )));
    }
    let found = columns.type_oid(1);
    kind_of(found).ok_or_else(|| {
        Error::Columns(format!(
            "the first column of a labelled query must be of type bytea or vector, not {}",
            type_name(found)
        ))
    })
}

/// What a column of that type holds: an image, an embedding or neither.
pub(super) fn kind_of(type_oid: pg_sys::Oid) -> Option<Kind> {
    // SAFETY: the OID is of a type that exists.
    match unsafe { pg_sys::getBaseType(type_oid) } {
        base if base == pg_sys::BYTEAOID => Some(Kind::Image),
        base if base == vector_type() => Some(Kind::Embedding),
        _ => None,
    }
}
