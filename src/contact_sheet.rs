//! One picture with the images of a query.

mod cells;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_server::protocol::SheetRequest;

use crate::inference::client;
use crate::limits;
use crate::pg::catalog::sheet_query;
use crate::pg::version::SameVersion;
use crate::thumbnail::checked_size;
use cells::Cells;

/// Cells in a row, where a call gives no number.
const COLUMNS: i32 = 8;

/// A PNG file with thumbnails of the images of a query, in its order, and their labels below; NULL for NULL, and for a
/// query without rows. The query's first column is an image, and a second one a label. An image that cannot be read is a
/// grey cell with the error. Parallel unsafe, because the query may do anything.
#[pg_extern(stable, parallel_unsafe, cost = 1000000)]
fn contact_sheet(
    _version: SameVersion,
    query: Option<&str>,
    columns: default!(Option<i32>, "8"),
    size: default!(Option<i32>, "160"),
) -> Result<Option<Vec<u8>>, ErrorReport> {
    let Some(query) = query else { return Ok(None) };
    let columns = limits::count(columns.unwrap_or(COLUMNS), "columns", limits::SHEET_COLUMNS)? as u32;
    let size = checked_size(size)?;
    let mut cells = Cells::new(columns, size);
    sheet_query::read(query, |row, has_labels| cells.push(row, has_labels))?;
    let has_labels = cells.has_labels();
    let cells = cells.finish()?;
    if cells.is_empty() {
        return Ok(None);
    }
    let cells = cells.iter().map(|cell| cell.request()).collect();
    Ok(Some(client::draw_sheet(&SheetRequest { columns, size, has_labels, cells })?))
}
