//! WebP, with the decoder of the `image` crate, but within a memory limit.
//!
//! `image` sets no limit. A file of a hundred bytes could then make the decoder allocate up to 4 GB, by stating that
//! length for its metadata.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage, RgbaImage};
use image_webp::{DecodingError, WebPDecoder};

use super::{Admission, flatten};
use crate::clip::error::{ClipError, Result};

fn broken(error: DecodingError) -> ClipError {
    ClipError::Image { format: Some("WebP"), reason: error.to_string() }
}

/// Decodes the image, or the first one of an animation.
pub(super) fn decode(bytes: &[u8], limits: &Admission) -> Result<(RgbImage, Orientation)> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(broken)?;
    // No chunk can be longer than the file.
    decoder.set_memory_limit(bytes.len());
    let (width, height) = decoder.dimensions();
    limits.check_pixels(width, height)?;
    // Broken metadata must not make the image fail.
    let exif = decoder.exif_metadata().ok().flatten().unwrap_or_default();
    let exif = exif.strip_prefix(b"Exif\0\0").unwrap_or(&exif);
    let orientation = Orientation::from_exif_chunk(exif).unwrap_or(Orientation::NoTransforms);
    let image = if decoder.has_alpha() {
        let mut image = RgbaImage::new(width, height);
        decoder.read_image(&mut image).map_err(broken)?;
        DynamicImage::ImageRgba8(image)
    } else {
        let mut image = RgbImage::new(width, height);
        decoder.read_image(&mut image).map_err(broken)?;
        DynamicImage::ImageRgb8(image)
    };
    Ok((flatten::on_white(image), orientation))
}
