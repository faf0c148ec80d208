//! Images of which thumbnails are made together.

use std::mem;

use serde_bytes::ByteBuf;
use susx_server::protocol::ThumbnailFormat;

use crate::batches::{THUMBNAIL_BYTES, THUMBNAIL_IMAGES};
use crate::inference::client::{Original, Stream};
use crate::pg::error::{Error, Result};
use crate::pg::image::Image;

/// Images that wait for their thumbnails, each with what it belongs to.
#[derive(Debug)]
pub struct ThumbnailBatch<T> {
    size: u32,
    owners: Vec<T>,
    files: Vec<Original>,
    bytes: usize,
}

impl<T> ThumbnailBatch<T> {
    /// For JPEG thumbnails of `size` pixels.
    pub fn new(size: u32) -> Self {
        ThumbnailBatch { size, owners: Vec::new(), files: Vec::new(), bytes: 0 }
    }

    pub fn push(&mut self, owner: T, image: Image) {
        self.bytes += image.size();
        self.files.push(Original { image, size: self.size, format: ThumbnailFormat::Jpeg });
        self.owners.push(owner);
    }

    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether there are enough images.
    pub fn is_full(&self) -> bool {
        self.files.len() >= THUMBNAIL_IMAGES || self.bytes >= THUMBNAIL_BYTES
    }

    /// Makes the thumbnails, and passes each to `each`, or why there is none. `row` is the number of an image's row, for
    /// errors that are not the image's.
    pub fn make(
        &mut self,
        row: impl Fn(&T) -> u64,
        mut each: impl FnMut(T, Result<ByteBuf, String>),
    ) -> Result<()> {
        self.bytes = 0;
        if self.files.is_empty() {
            return Ok(());
        }
        let answers = Stream::new(None).run(mem::take(&mut self.files))?;
        for (owner, answer) in self.owners.drain(..).zip(answers) {
            match answer {
                Ok(file) => each(owner, Ok(file)),
                Err(failure) if failure.kind.is_of_input() => each(owner, Err(failure.message)),
                // A failure of the process, and not of this image.
                Err(failure) => return Err(Error::from(failure).in_row(row(&owner))),
            }
        }
        Ok(())
    }
}
