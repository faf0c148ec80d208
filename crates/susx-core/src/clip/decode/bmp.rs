//! BMP, as Pillow reads it, and some variants that Pillow does not support.
//!
//! The `image` crate leaves the pixels that a compressed file skips black, regardless of the palette, and rejects the
//! second version of OS/2's files.

mod header;
mod run_length;

use image::RgbImage;

use self::header::{Compression, Header};
use super::Admission;
use super::flatten::over_white;
use super::info::{self, ImageInfo};
use crate::clip::error::{ClipError, Result};

fn broken(reason: impl ToString) -> ClipError {
    ClipError::Image { format: Some("BMP"), reason: reason.to_string() }
}

fn ends_early() -> ClipError {
    broken("the image ends early")
}

/// What the headers say.
pub(super) fn info(bytes: &[u8]) -> Result<ImageInfo> {
    let header = Header::new(bytes)?;
    let mode = match header.bits {
        1..=8 => "P".to_owned(),
        _ => info::mode(false, !header.masks[3].is_empty(), 8),
    };
    Ok(ImageInfo {
        format: "BMP",
        width: header.width,
        height: header.height,
        orientation: 1,
        frames: 1,
        mode,
    })
}

/// Decodes the image.
pub(super) fn decode(bytes: &[u8], limits: &Admission) -> Result<RgbImage> {
    let header = Header::new(bytes)?;
    limits.check_pixels(header.width, header.height)?;
    let data = bytes.get(header.offset..).ok_or_else(ends_early)?;
    let (width, height) = (header.width as usize, header.height as usize);
    let mut samples = vec![0; 3 * width * height];
    // The rows as they are stored, usually from the bottom.
    let to = |row: usize| if header.is_top_down { row } else { height - 1 - row };
    let indices;
    let (data, bits) = match header.compression {
        Compression::RunLength { is_of_4_bits } => {
            indices = run_length::decode(data, width, height, is_of_4_bits)?;
            (indices.as_slice(), 8)
        }
        _ => (data, header.bits),
    };
    let length = (width * bits).div_ceil(8);
    let stride = match header.compression {
        Compression::RunLength { .. } => length,
        _ => length.next_multiple_of(4),
    };
    for row in 0..height {
        let pixels = data.get(row * stride..row * stride + length).ok_or_else(ends_early)?;
        let start = to(row) * width * 3;
        let out = samples.get_mut(start..start + 3 * width).ok_or_else(ends_early)?;
        for (x, color) in out.chunks_exact_mut(3).enumerate() {
            color.copy_from_slice(&match bits {
                1 | 4 | 8 => {
                    let shift = 8 - bits - x * bits % 8;
                    let index = usize::from(pixels[x * bits / 8] >> shift) & ((1 << bits) - 1);
                    header.color(index)
                }
                24 => [pixels[3 * x + 2], pixels[3 * x + 1], pixels[3 * x]],
                _ => {
                    let bytes = &pixels[x * bits / 8..][..bits / 8];
                    let value = bytes.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
                    let [r, g, b] = [0, 1, 2].map(|channel| header.masks[channel].level(value));
                    let alpha = if header.masks[3].is_empty() { 255 } else { header.masks[3].level(value) };
                    [r, g, b].map(|level| over_white(level, alpha))
                }
            });
        }
    }
    RgbImage::from_raw(header.width, header.height, samples).ok_or_else(ends_early)
}
