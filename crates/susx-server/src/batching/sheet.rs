//! Contact sheets of thumbnails.
//!
//! The thread that reads a connection draws them. The pixels of a sheet count as decoded ones, so that several sheets at
//! the same time take no more memory than decoders may. The thumbnails are decoded one by one, and are too small to
//! count.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_bytes::ByteBuf;
use susx_core::clip::{self, ImageLimits, decode_rgb};
use susx_core::sheet::{Content, Sheet};

use crate::batching::image_file::Decoding;
use crate::batching::request::abandoned;
use crate::limits::MAX_THUMBNAIL_SIZE;
use crate::protocol::{Failure, FailureKind, SheetCell, SheetPicture, SheetRequest};

/// The sheet as a PNG file. Gives up once `is_disconnected`.
pub fn draw(
    request: &SheetRequest,
    decoding: &Decoding,
    is_disconnected: impl Fn() -> bool,
) -> Result<ByteBuf, Failure> {
    request.check()?;
    let _permit = decoding.pixel_budget.take(request.layout().pixels());
    let draw = || {
        let mut sheet = Sheet::new(request.layout())?;
        for (index, cell) in request.cells.iter().enumerate() {
            if is_disconnected() {
                return Err(abandoned());
            }
            fill(&mut sheet, index, cell)?;
        }
        Ok(ByteBuf::from(sheet.png()?))
    };
    match catch_unwind(AssertUnwindSafe(draw)) {
        Ok(result) => result,
        Err(_) => Err(Failure::new(FailureKind::Inference, "drawing a contact sheet panicked")),
    }
}

fn fill(sheet: &mut Sheet, index: usize, cell: &SheetCell) -> clip::Result<()> {
    let image;
    let content = match cell.picture {
        SheetPicture::Thumbnail(file) => {
            // The settings' limits were for the original.
            let max_pixels = u64::from(MAX_THUMBNAIL_SIZE).pow(2);
            image = decode_rgb(file, &ImageLimits { max_bytes: file.len(), max_pixels })?;
            Content::Image(&image)
        }
        SheetPicture::Failed(reason) => Content::Failed(reason),
        SheetPicture::None => Content::Empty,
    };
    sheet.fill(index, content, cell.label);
    Ok(())
}
