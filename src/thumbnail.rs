//! Small copies of images, for people to look at.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_server::limits::{MAX_THUMBNAIL_SIZE, MIN_THUMBNAIL_SIZE};
use susx_server::protocol::ThumbnailFormat;

use crate::inference::client::{Original, Stream};
use crate::pg::error::{Error, Result};
use crate::pg::image::Image;
use crate::pg::version::SameVersion;

/// Length of the longest side in pixels, where a call gives none.
pub const DEFAULT_SIZE: u32 = 160;

/// A copy of an image file, on white and upright, whose longest side has at most `size` pixels; NULL for NULL. A smaller
/// image keeps its size. `format` is `jpeg` or `png`.
#[pg_extern(stable, parallel_safe, cost = 100000)]
fn thumbnail(
    _version: SameVersion,
    image: Option<Image>,
    size: default!(Option<i32>, "160"),
    format: default!(Option<&str>, "'jpeg'"),
) -> Result<Option<Vec<u8>>, ErrorReport> {
    let Some(image) = image else { return Ok(None) };
    let original = Original { image, size: checked_size(size)?, format: parsed_format(format)? };
    match Stream::new(None).run(vec![original])?.pop() {
        Some(file) => Ok(Some(file.map_err(Error::from)?.into_vec())),
        None => Err(Error::internal("the inference process did not answer").into()),
    }
}

/// The value of an argument `size`.
pub fn checked_size(size: Option<i32>) -> Result<u32> {
    let Some(size) = size else { return Ok(DEFAULT_SIZE) };
    let sizes = MIN_THUMBNAIL_SIZE..=MAX_THUMBNAIL_SIZE;
    u32::try_from(size).ok().filter(|size| sizes.contains(size)).ok_or_else(|| {
        let (least, most) = (sizes.start(), sizes.end());
        Error::argument(format!("size must be from {least} to {most} pixels, not {size}"))
    })
}

fn parsed_format(format: Option<&str>) -> Result<ThumbnailFormat> {
    match format.unwrap_or("jpeg") {
        "jpeg" => Ok(ThumbnailFormat::Jpeg),
        "png" => Ok(ThumbnailFormat::Png),
        other => Err(Error::argument(format!("format must be \"jpeg\" or \"png\", not \"{other}\""))),
    }
}
