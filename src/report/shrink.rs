//! Thumbnails of the images that a report shows or may show.

use std::collections::HashSet;
use std::rc::Rc;

use susx_report::{Picture, Subject};
use susx_server::protocol::ThumbnailFormat;

use crate::batches::{THUMBNAIL_BYTES, THUMBNAIL_IMAGES};
use crate::inference::client::{Original, Stream};
use crate::pg::error::{Error, Result};
use crate::pg::image::{Image, StoredImage};

/// A row of the query that may be shown.
pub type Row = Subject<StoredImage>;

/// Puts thumbnails in the place of images. `done` gets the number of those that were made after every batch.
pub fn shrink(rows: impl Iterator<Item = Rc<Row>>, size: u32, mut done: impl FnMut(u64)) -> Result<()> {
    let mut seen = HashSet::new();
    let mut waiting: Vec<Rc<Row>> = Vec::new();
    let (mut files, mut bytes) = (Vec::new(), 0);
    let format = ThumbnailFormat::Jpeg;
    for row in rows {
        let Some(image) = original(&row).filter(|_| seen.insert(Rc::as_ptr(&row))) else { continue };
        bytes += image.size();
        files.push(Original { image, size, format });
        waiting.push(Rc::clone(&row));
        if files.len() >= THUMBNAIL_IMAGES || bytes >= THUMBNAIL_BYTES {
            done(waiting.len() as u64);
            replace(&mut waiting, std::mem::take(&mut files))?;
            bytes = 0;
        }
    }
    done(waiting.len() as u64);
    replace(&mut waiting, files)
}

/// The image of a row that has no thumbnail yet.
fn original(row: &Row) -> Option<Image> {
    match &*row.picture.borrow() {
        Picture::Original(stored) => Some(stored.read()),
        _ => None,
    }
}

fn replace(rows: &mut Vec<Rc<Row>>, files: Vec<Original>) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let answers = Stream::new(None).run(files)?;
    for (row, answer) in rows.drain(..).zip(answers) {
        let picture = match answer {
            Ok(file) => Picture::Thumbnail(file.into_vec()),
            Err(failure) if failure.kind.is_of_input() => Picture::Failed(failure.message),
            // A failure of the process, and not of this image.
            Err(failure) => return Err(Error::from(failure).in_row(row.row)),
        };
        row.picture.replace(picture);
    }
    Ok(())
}
