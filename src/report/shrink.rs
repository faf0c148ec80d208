//! Thumbnails of the images that a report shows or may show.

use std::collections::HashSet;
use std::rc::Rc;

use susx_report::{Picture, Subject};

use crate::pg::error::Result;
use crate::pg::image::{Image, StoredImage};
use crate::thumbnail_batch::ThumbnailBatch;

/// A row of the query that may be shown.
pub type Row = Subject<StoredImage>;

/// Puts thumbnails in the place of images. `done` gets the number of those that were made after every batch.
pub fn shrink(rows: impl Iterator<Item = Rc<Row>>, size: u32, mut done: impl FnMut(u64)) -> Result<()> {
    let mut seen = HashSet::new();
    let mut batch = ThumbnailBatch::new(size);
    for row in rows {
        let Some(image) = original(&row).filter(|_| seen.insert(Rc::as_ptr(&row))) else { continue };
        batch.push(row, image);
        if batch.is_full() {
            done(batch.len() as u64);
            replace(&mut batch)?;
        }
    }
    done(batch.len() as u64);
    replace(&mut batch)
}

/// The image of a row that has no thumbnail yet.
fn original(row: &Row) -> Option<Image> {
    match &*row.picture.borrow() {
        Picture::Original(stored) => Some(stored.read()),
        _ => None,
    }
}

fn replace(batch: &mut ThumbnailBatch<Rc<Row>>) -> Result<()> {
    batch.make(
        |row| row.row,
        |row, file| {
            let file = file.map(|file| Picture::Thumbnail(file.into_vec()));
            row.picture.replace(file.unwrap_or_else(Picture::Failed));
        },
    )
}
