//! What the headers of image files say.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_server::protocol::{Failure, ImageInfo};

use crate::inference::client::{Described, Stream};
use crate::pg::error::Error;
use crate::pg::image::Image;
use crate::pg::version::SameVersion;

/// The columns of `susx.image_info`.
type InfoRow = (
    Option<String>,
    Option<i32>,
    Option<i32>,
    Option<i32>,
    Option<i32>,
    Option<String>,
    Option<i64>,
    Option<String>,
);

/// What an image file's header says, in one row; NULLs for NULL. An unreadable file has its bytes and an error. No pixel is
/// decoded.
#[pg_extern(stable, parallel_safe, cost = 10000)]
#[allow(clippy::type_complexity)]
fn image_info(
    _version: SameVersion,
    image: Option<Image>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(format, Option<String>),
            name!(width, Option<i32>),
            name!(height, Option<i32>),
            name!(orientation, Option<i32>),
            name!(frames, Option<i32>),
            name!(mode, Option<String>),
            name!(bytes, Option<i64>),
            name!(error, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let Some(image) = image else {
        return Ok(TableIterator::once((None, None, None, None, None, None, None, None)));
    };
    let bytes = match &image {
        Image::File(file) => file.len(),
        Image::TooLarge(size) => *size,
    };
    match Stream::new(None).run(vec![Described(image)])?.pop() {
        Some(Err(failure)) if !failure.kind.is_of_input() => Err(Error::from(failure).into()),
        Some(answer) => Ok(TableIterator::once(row(bytes, answer))),
        None => Err(Error::internal("the inference process did not answer").into()),
    }
}

fn row(bytes: usize, answer: Result<ImageInfo, Failure>) -> InfoRow {
    let bytes = i64::try_from(bytes).ok();
    match answer {
        Ok(info) => {
            // A header may state any number of 32 bits.
            let number = |number: u32| Some(i32::try_from(number).unwrap_or(i32::MAX));
            let (width, height, frames) = (number(info.width), number(info.height), number(info.frames));
            let orientation = Some(i32::from(info.orientation));
            (Some(info.format), width, height, orientation, frames, Some(info.mode), bytes, None)
        }
        Err(failure) => (None, None, None, None, None, None, bytes, Some(failure.message)),
    }
}
