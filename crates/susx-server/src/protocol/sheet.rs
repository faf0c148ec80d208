//! The request for a contact sheet.

use serde::{Deserialize, Serialize};
use serde_bytes::Bytes;
use susx_core::sheet::Layout;

use super::{Failure, FailureKind};
use crate::limits;

/// A contact sheet to draw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SheetRequest<'a> {
    /// Cells in a row. A sheet of fewer cells is narrower.
    pub columns: u32,
    /// Width and height of a cell in pixels.
    pub size: u32,
    /// Whether there is a line for labels below the cells.
    pub has_labels: bool,
    /// From left to right and from top to bottom.
    #[serde(borrow)]
    pub cells: Vec<SheetCell<'a>>,
}

/// A cell of a contact sheet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SheetCell<'a> {
    #[serde(borrow)]
    pub picture: SheetPicture<'a>,
    pub label: Option<&'a str>,
}

/// What a cell shows above its label.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum SheetPicture<'a> {
    /// The file of a thumbnail, no larger than the cell.
    #[serde(borrow)]
    Thumbnail(&'a Bytes),
    /// Why there is no thumbnail.
    Failed(&'a str),
    None,
}

impl SheetRequest<'_> {
    /// How large the sheet is, and where its cells are.
    pub fn layout(&self) -> Layout {
        Layout::new(self.cells.len(), self.columns, self.size, self.has_labels)
    }

    /// Checks the numbers against [`limits`]; fails with [`FailureKind::Parameter`].
    pub fn check(&self) -> Result<(), Failure> {
        let check = |name: &str, least: u64, most: u64, found: u64| {
            if (least..=most).contains(&found) {
                return Ok(());
            }
            let message = format!("{name}: expected {least} to {most}, not {found}");
            Err(Failure { kind: FailureKind::Parameter, message, hint: None })
        };
        let sizes = [limits::MIN_THUMBNAIL_SIZE, limits::MAX_THUMBNAIL_SIZE].map(u64::from);
        check("columns", 1, limits::MAX_SHEET_COLUMNS.into(), self.columns.into())?;
        check("size", sizes[0], sizes[1], self.size.into())?;
        check("images", 1, limits::MAX_SHEET_IMAGES as u64, self.cells.len() as u64)?;
        check("pixels", 1, limits::MAX_SHEET_PIXELS, self.layout().pixels())
    }
}
