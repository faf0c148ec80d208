//! The cells of a contact sheet, from the rows of its query.

use serde_bytes::{ByteBuf, Bytes};
use susx_core::sheet::Layout;
use susx_server::protocol::{SheetCell, SheetPicture};

use crate::limits;
use crate::pg::catalog::sheet_query::SheetRow;
use crate::pg::error::Result;
use crate::thumbnail_batch::ThumbnailBatch;

/// Letters of a label or an error that are kept: more than fit into a cell.
const LETTERS: usize = 1_000;

/// A cell of the sheet.
#[derive(Debug)]
pub struct Cell {
    picture: Picture,
    label: Option<String>,
}

#[derive(Debug)]
enum Picture {
    Thumbnail(ByteBuf),
    Failed(String),
    /// The image is NULL, or its thumbnail is not made yet.
    None,
}

impl Cell {
    /// The cell as the inference process takes it.
    pub fn request(&self) -> SheetCell<'_> {
        let picture = match &self.picture {
            Picture::Thumbnail(file) => SheetPicture::Thumbnail(Bytes::new(file)),
            Picture::Failed(reason) => SheetPicture::Failed(reason),
            Picture::None => SheetPicture::None,
        };
        SheetCell { picture, label: self.label.as_deref() }
    }
}

/// Collects cells, and has thumbnails made as soon as there are enough images for a batch.
#[derive(Debug)]
pub struct Cells {
    columns: u32,
    size: u32,
    has_labels: bool,
    cells: Vec<Cell>,
    /// Images with their cells, counted from 0.
    waiting: ThumbnailBatch<usize>,
}

impl Cells {
    /// For a sheet of this many columns, with cells of `size` × `size` pixels.
    pub fn new(columns: u32, size: u32) -> Self {
        Cells { columns, size, has_labels: false, cells: Vec::new(), waiting: ThumbnailBatch::new(size) }
    }

    /// Whether the rows have labels.
    pub fn has_labels(&self) -> bool {
        self.has_labels
    }

    /// Adds a row of the query. An error if the sheet gets too large.
    pub fn push(&mut self, row: SheetRow, has_labels: bool) -> Result<()> {
        self.has_labels = has_labels;
        let SheetRow { image, label, .. } = row;
        let count = self.cells.len() + 1;
        limits::check("the number of images of a contact sheet", limits::SHEET_IMAGES, count)?;
        let pixels = Layout::new(count, self.columns, self.size, has_labels).pixels() as usize;
        limits::check_pixels("a contact sheet", limits::SHEET_PIXELS, pixels)
            .map_err(|error| error.in_row(row.number))?;
        if let Some(image) = image {
            self.waiting.push(self.cells.len(), image);
        }
        self.cells.push(Cell { picture: Picture::None, label: label.map(shortened) });
        if self.waiting.is_full() {
            self.shrink()?;
        }
        Ok(())
    }

    /// All cells with their thumbnails.
    pub fn finish(mut self) -> Result<Vec<Cell>> {
        self.shrink()?;
        Ok(self.cells)
    }

    /// Makes the thumbnails of the images that wait.
    fn shrink(&mut self) -> Result<()> {
        let cells = &mut self.cells;
        self.waiting.make(
            |&cell| cell as u64 + 1,
            |cell, file| {
                if let Some(cell) = cells.get_mut(cell) {
                    let file = file.map(Picture::Thumbnail);
                    cell.picture = file.unwrap_or_else(|reason| Picture::Failed(shortened(reason)));
                }
            },
        )
    }
}

/// The beginning of a text.
fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LETTERS) {
        text.truncate(end);
    }
    text
}
