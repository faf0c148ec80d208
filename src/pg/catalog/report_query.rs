//! The query of a report: SQL that the caller wrote, whose first column is a key, and whose other columns are known by
//! their names.

use std::cell::RefCell;

use pgrx::{PgSqlErrorCode, pg_sys};

use super::input::InputKind;
use super::vector_hint;
use crate::batches::FETCHED_ROWS;
use crate::limits;
use crate::pg::error::{Error, Result, SqlError};
use crate::pg::image::StoredImage;
use crate::pg::spi::{self, Columns, Row};
use crate::pg::types::{base_type, type_name};
use crate::pg::vector::Vector;

/// Why a query cannot be used for a report.
#[derive(Debug, thiserror::Error)]
enum ReportQueryError {
    #[error("column \"{name}\" of the query of a report must be of type {expected}, not {found}")]
    Type { name: String, expected: &'static str, found: String, hint: Option<String> },
    #[error("the query of a report has a column \"{0}\", which a report does not use")]
    Name(String),
    #[error("the query of a report has two columns \"{0}\"")]
    Twice(String),
    #[error("the query of a report must have a column \"image\" or \"embedding\" after the key")]
    NoInput,
}

impl SqlError for ReportQueryError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH
    }

    fn hint(&self) -> Option<String> {
        if let ReportQueryError::Type { hint: Some(hint), .. } = self {
            return Some(hint.clone());
        }
        Some(
            "The first column is the key. After it come image, embedding, likeness and truth, those that there are: such \
             as 'SELECT id, image, embedding FROM images'."
                .to_owned(),
        )
    }
}

/// Which columns a query has, by their numbers from 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReportColumns {
    pub image: Option<i32>,
    pub embedding: Option<i32>,
    pub likeness: Option<i32>,
    pub truth: Option<i32>,
    /// Whether the truth is of type character, which is padded with spaces.
    is_padded: bool,
}

/// A row of a report's query.
#[derive(Debug)]
pub struct ReportRow {
    /// Counted from 1.
    pub number: u64,
    /// The key as text; `None` for NULL, as below.
    pub key: Option<String>,
    pub image: Option<StoredImage>,
    pub embedding: Option<Vector>,
    pub likeness: Option<Vector>,
    /// `None` if the query has no such column, `Some(None)` for NULL: an image of none of the categories.
    pub truth: Option<Option<String>>,
}

/// Passes the rows of a query to `each`. The query runs with the snapshot of the running statement and the caller's
/// rights. Its columns are checked before the first row; then `begin` gets them and the number of rows that the planner
/// expects, and may reject them.
pub fn read(
    query: &str,
    begin: impl FnOnce(ReportColumns, Option<u64>) -> Result<()>,
    mut each: impl FnMut(ReportRow) -> Result<()>,
) -> Result<()> {
    let columns = RefCell::new(ReportColumns::default());
    let mut number = 0;
    let open = |found: &Columns| {
        let checked = check(found)?;
        columns.replace(checked);
        begin(checked, found.expected_rows())?;
        // Images, which may be large, are fetched one by one.
        Ok(if checked.image.is_some() { 1 } else { FETCHED_ROWS })
    };
    spi::read_user_query(query, "SELECT id, image, embedding FROM images", open, |row| {
        number += 1;
        each(read_row(row, *columns.borrow(), number)?)?;
        Ok(true)
    })
}

fn read_row(row: &Row, columns: ReportColumns, number: u64) -> Result<ReportRow> {
    let check = |what: &str, column: i32| {
        limits::check_bytes(what, limits::TEXT_BYTES, row.size(column))
            .map_err(|error: Error| error.in_row(number))
    };
    check("a key", 1)?;
    let vector = |column: Option<i32>| column.map(|column| row.vector(column)).transpose();
    let truth = match columns.truth {
        None => None,
        Some(column) => {
            check("a category", column)?;
            let mut truth = row.text(column).map_err(|error| error.in_row(number))?;
            if let (Some(truth), true) = (&mut truth, columns.is_padded) {
                truth.truncate(truth.trim_end_matches(' ').len());
            }
            Some(truth)
        }
    };
    Ok(ReportRow {
        number,
        key: row.text(1).map_err(|error| error.in_row(number))?,
        image: columns.image.map(|column| row.stored_image(column)).transpose()?.flatten(),
        embedding: vector(columns.embedding)?.flatten(),
        likeness: vector(columns.likeness)?.flatten(),
        truth,
    })
}

fn check(columns: &Columns) -> Result<ReportColumns> {
    let mut found = ReportColumns::default();
    for column in 2..=columns.count() {
        let name = columns.name(column);
        let type_oid = columns.type_oid(column);
        let (place, expected, fits) = match name.as_str() {
            "image" => (&mut found.image, "bytea", InputKind::of_type(type_oid) == Some(InputKind::Image)),
            "embedding" | "likeness" => {
                let place = if name == "embedding" { &mut found.embedding } else { &mut found.likeness };
                (place, "vector", InputKind::of_type(type_oid) == Some(InputKind::Embedding))
            }
            // A category may be an enum.
            "truth" => (&mut found.truth, "text", true),
            _ => return Err(ReportQueryError::Name(name).into()),
        };
        if !fits {
            let hint = if expected == "vector" { vector_hint::of_query(type_oid) } else { None };
            return Err(ReportQueryError::Type { name, expected, found: type_name(type_oid), hint }.into());
        }
        if place.replace(column).is_some() {
            return Err(ReportQueryError::Twice(name).into());
        }
    }
    if found.image.is_none() && found.embedding.is_none() {
        return Err(ReportQueryError::NoInput.into());
    }
    let truth = found.truth.map(|column| base_type(columns.type_oid(column)));
    Ok(ReportColumns { is_padded: truth == Some(pg_sys::BPCHAROID), ..found })
}
