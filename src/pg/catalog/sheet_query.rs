//! The query of a contact sheet: SQL that the caller wrote, whose columns are an image and perhaps a label.

use std::cell::Cell;

use pgrx::PgSqlErrorCode;

use super::input::InputKind;
use crate::limits;
use crate::pg::error::{Error, Result, SqlError};
use crate::pg::image::Image;
use crate::pg::spi::{self, Columns};
use crate::pg::types::type_name;

/// Why a query cannot be used for a contact sheet.
#[derive(Debug, thiserror::Error)]
enum SheetQueryError {
    #[error("the query of a contact sheet must have one column, an image, or a second one, a label, not {0}")]
    Count(i32),
    #[error("the first column of the query of a contact sheet must be of type bytea, not {0}")]
    Type(String),
}

impl SqlError for SheetQueryError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH
    }

    fn hint(&self) -> Option<String> {
        Some("The query of a contact sheet is such as 'SELECT image, id FROM images'.".to_owned())
    }
}

/// A row of the query of a contact sheet.
#[derive(Debug)]
pub struct SheetRow {
    /// Counted from 1.
    pub number: u64,
    /// `None` for NULL, as below.
    pub image: Option<Image>,
    /// The label as text.
    pub label: Option<String>,
}

/// Passes the rows of a query to `each`, with whether they have labels. The query runs with the snapshot of the running
/// statement and the caller's rights. Its columns are checked before the first row.
pub fn read(query: &str, mut each: impl FnMut(SheetRow, bool) -> Result<()>) -> Result<()> {
    let has_labels = Cell::new(false);
    let open = |columns: &Columns| {
        has_labels.set(check(columns)?);
        // Images, which may be large, are fetched one by one.
        Ok(1)
    };
    let mut number = 0;
    spi::read_user_query(query, "SELECT image, id FROM images", open, |row| {
        number += 1;
        let mut label = None;
        if has_labels.get() {
            let in_row = |error: Error| error.in_row(number);
            limits::check_bytes("a label", limits::TEXT_BYTES, row.size(2)).map_err(in_row)?;
            label = row.text(2).map_err(in_row)?;
        }
        each(SheetRow { number, image: row.get(1)?, label }, has_labels.get())?;
        Ok(true)
    })
}

/// Whether there is a column of labels.
fn check(columns: &Columns) -> Result<bool> {
    let count = columns.count();
    if !(1..=2).contains(&count) {
        return Err(SheetQueryError::Count(count).into());
    }
    let found = columns.type_oid(1);
    if InputKind::of_type(found) != Some(InputKind::Image) {
        return Err(SheetQueryError::Type(type_name(found)).into());
    }
    Ok(count == 2)
}
