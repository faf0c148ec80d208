//! Contact sheets as a product of the inference process.

use susx_server::protocol::{Reply, Request, SheetRequest};

use super::{ask, unexpected};
use crate::pg::error::Result;

/// Draws a contact sheet of thumbnails, as a PNG file.
pub fn draw_sheet(sheet: &SheetRequest) -> Result<Vec<u8>> {
    match ask(|id| Request::Sheet { id, sheet: sheet.clone() })? {
        Reply::Sheet { file, .. } => Ok(file.into_vec()),
        other => Err(unexpected(&other)),
    }
}
