//! PNG, with the decoder of the `image` crate, which sees only the picture's own chunks.
//!
//! So other chunks cannot make it fail.

mod chunks;
mod metadata;

use std::error::Error as _;
use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, Limits, RgbImage, codecs};

pub(super) use self::chunks::{Chunk, chunks};
use super::{Admission, flatten};
use crate::clip::error::{ClipError, Result};

fn broken(reason: impl ToString) -> ClipError {
    ClipError::Image { format: Some("PNG"), reason: reason.to_string() }
}

/// Decodes the image; of an animation the still one, which programs show that know no animations.
pub(super) fn decode(bytes: &[u8], limits: &Admission) -> Result<(RgbImage, Orientation)> {
    let failed = |error: ImageError| {
        // The outer message merely repeats the format.
        broken(error.source().map_or_else(|| error.to_string(), |source| source.to_string()))
    };
    if let Some(&[w0, w1, w2, w3, h0, h1, h2, h3]) = chunks(bytes)
        .next()
        .filter(|header| &header.name == b"IHDR")
        .and_then(|header| header.content.first_chunk())
    {
        limits.check_pixels(u32::from_be_bytes([w0, w1, w2, w3]), u32::from_be_bytes([h0, h1, h2, h3]))?;
    }
    let picture = picture(bytes)?;
    let mut bounds = Limits::default();
    bounds.max_alloc = Some(limits.max_alloc());
    let decoder = codecs::png::PngDecoder::with_limits(Cursor::new(picture), bounds).map_err(failed)?;
    let (width, height) = decoder.dimensions();
    limits.check_pixels(width, height)?;
    let image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    Ok((flatten::on_white(image), orientation(bytes)))
}

/// How the picture is turned to be upright.
pub(super) fn orientation(bytes: &[u8]) -> Orientation {
    let found = metadata::find(bytes);
    super::orientation::of(found.exif.as_deref(), found.xmp.as_deref())
}

const PALETTE: u8 = 3;

/// The file without the chunks that do not belong to the picture, and with a palette and transparency as the standard
/// has them.
fn picture(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut picture = bytes[..bytes.len().min(chunks::SIGNATURE)].to_vec();
    let (mut palette, mut transparency) = (None, None);
    let mut color_type = 0;
    for chunk in chunks(bytes) {
        match &chunk.name {
            b"CgBI" => return Err(broken("Apple's variant for iPhones (CgBI) is not supported")),
            b"IHDR" => {
                color_type = chunk.content.get(9).copied().unwrap_or(0);
                picture.extend(chunk.whole);
            }
            b"PLTE" if color_type == PALETTE => palette = Some(chunk),
            b"tRNS" if matches!(color_type, 0 | 2 | PALETTE) => transparency = Some(chunk),
            b"IDAT" => {
                write_colors(&mut picture, color_type, palette.take(), transparency.take());
                picture.extend(chunk.whole);
            }
            b"IEND" => {
                picture.extend(chunk.whole);
                break;
            }
            _ => {}
        }
    }
    Ok(picture)
}

/// Writes what comes before the image data.
fn write_colors(picture: &mut Vec<u8>, color_type: u8, palette: Option<Chunk>, transparency: Option<Chunk>) {
    let colors = palette.as_ref().map_or(0, |palette| palette.content.len() / 3);
    if let Some(palette) = palette {
        // Bytes that do not make up a whole colour are ignored.
        palette.shortened(3 * colors, picture);
    }
    if let Some(transparency) = transparency {
        let length = match color_type {
            0 => 2,
            2 => 6,
            _ => colors,
        };
        transparency.shortened(length, picture);
    }
}
