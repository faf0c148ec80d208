//! TIFF, with the `tiff` decoder.
//!
//! The `image` crate uses the same decoder but supports fewer kinds of TIFF: no palettes, no greyscale of
//! 2, 4 or 32 bits, no greyscale with alpha, no YCbCr.

use std::borrow::Cow;
use std::io::Cursor;

use image::RgbImage;
use image::metadata::Orientation;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

use super::Admission;
use super::flatten::over_white;
use crate::clip::error::{ClipError, Result};

/// `PhotometricInterpretation` of a palette image, and of the greyscale image that we read it as.
const PALETTE: u16 = 3;
const BLACK_IS_ZERO: u16 = 1;
/// `ExtraSamples` of colours that are premultiplied by alpha.
const ASSOCIATED_ALPHA: u16 = 1;

fn broken(reason: impl ToString) -> ClipError {
    ClipError::Image { format: Some("TIFF"), reason: reason.to_string() }
}

/// Decodes the first page.
pub(super) fn decode(bytes: &[u8], limits: &Admission) -> Result<(RgbImage, Orientation)> {
    let failed = |error: TiffError| broken(error);
    let (bytes, is_palette) = palette_as_grey(bytes);
    let max_alloc = usize::try_from(limits.max_alloc()).unwrap_or(usize::MAX);
    let mut bounds = Limits::default();
    bounds.decoding_buffer_size = max_alloc;
    bounds.intermediate_buffer_size = max_alloc;
    let mut decoder = Decoder::new(Cursor::new(&*bytes)).map_err(failed)?.with_limits(bounds);
    let (width, height) = decoder.dimensions().map_err(failed)?;
    limits.check_pixels(width, height)?;
    let orientation =
        decoder.find_tag_unsigned::<u8>(Tag::Orientation).ok().flatten().and_then(Orientation::from_exif);
    let palette = is_palette.then(|| decoder.get_tag_u16_vec(Tag::ColorMap)).transpose().map_err(failed)?;
    let color = decoder.colortype().map_err(failed)?;
    let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).map_err(failed)?.unwrap_or_default();

    let mut result = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut result).map_err(failed)?;
    let bits = color.bit_depth();
    let (levels, per_sample) = levels(result, bits, width, palette.is_some())?;
    // A TIFF stores its channels interleaved, or one plane after the other.
    let (pixel, channel) = match layout.planes {
        0 | 1 => (usize::from(color.num_samples()), 1),
        _ => (1, layout.plane_stride.map_or(0, |stride| stride.get() / per_sample)),
    };
    let mut image = RgbImage::new(width, height);
    let level = |index: usize, number: usize| levels.get(index * pixel + number * channel).copied();
    let kind = Kind::of(color, &extra, palette)?;
    for (index, to) in image.pixels_mut().enumerate() {
        to.0 = kind.rgb(|number| level(index, number)).ok_or_else(|| broken("the image ends early"))?;
    }
    Ok((image, orientation.unwrap_or(Orientation::NoTransforms)))
}

/// What the channels of a pixel mean.
enum Kind {
    Gray,
    GrayA {
        associated: bool,
    },
    Rgb,
    Rgba {
        associated: bool,
    },
    Cmyk,
    YCbCr,
    /// All reds, then all greens, then all blues, each from 0 to 65535.
    Palette(Vec<u16>),
}

impl Kind {
    fn of(color: ColorType, extra: &[u16], palette: Option<Vec<u16>>) -> Result<Kind> {
        let associated = extra.first() == Some(&ASSOCIATED_ALPHA);
        // An extra sample of unspecified meaning is not alpha. Without `ExtraSamples` it is.
        let is_alpha = extra.first() != Some(&0);
        match (color, palette) {
            (ColorType::Gray(_), Some(palette)) => Ok(Kind::Palette(palette)),
            (ColorType::Gray(_), None) => Ok(Kind::Gray),
            (ColorType::Multiband { num_samples: 2, .. }, None) if is_alpha && !extra.is_empty() => {
                Ok(Kind::GrayA { associated })
            }
            (ColorType::RGB(_), _) => Ok(Kind::Rgb),
            (ColorType::RGBA(_), _) if is_alpha => Ok(Kind::Rgba { associated }),
            (ColorType::RGBA(_), _) => Ok(Kind::Rgb),
            (ColorType::CMYK(_), _) => Ok(Kind::Cmyk),
            (ColorType::YCbCr(8), _) => Ok(Kind::YCbCr),
            (other, _) => Err(broken(format!("colours of type {other:?} are not supported"))),
        }
    }

    /// The colour of a pixel with the value `level(number)` in channel `number`; `None` if the pixel does not exist.
    fn rgb(&self, level: impl Fn(usize) -> Option<u8>) -> Option<[u8; 3]> {
        let blend = |level: u8, alpha: u8, associated: bool| match associated {
            true => level.saturating_add(255 - alpha),
            false => over_white(level, alpha),
        };
        Some(match self {
            Kind::Gray => [level(0)?; 3],
            Kind::GrayA { associated } => [blend(level(0)?, level(1)?, *associated); 3],
            Kind::Rgb => [level(0)?, level(1)?, level(2)?],
            Kind::Rgba { associated } => {
                let alpha = level(3)?;
                [level(0)?, level(1)?, level(2)?].map(|level| blend(level, alpha, *associated))
            }
            Kind::Cmyk => {
                let black = level(3)?;
                [level(0)?, level(1)?, level(2)?]
                    .map(|ink| ((u16::from(255 - ink) * u16::from(255 - black) + 127) / 255) as u8)
            }
            Kind::YCbCr => ycbcr(level(0)?, level(1)?, level(2)?),
            Kind::Palette(map) => {
                let (index, colors) = (usize::from(level(0)?), map.len() / 3);
                let entry =
                    |channel: usize| map.get(channel * colors + index).map_or(0, |level| (level >> 8) as u8);
                [entry(0), entry(1), entry(2)]
            }
        })
    }
}

/// JFIF's conversion, which equals TIFF's default coefficients.
fn ycbcr(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    // The cast saturates.
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb].map(|level| (level + 0.5) as u8)
}

/// The decoded samples as 8-bit levels (or palette indices), and the bytes of one original sample.
fn levels(result: DecodingResult, bits: u8, width: u32, is_palette: bool) -> Result<(Vec<u8>, usize)> {
    let unit = |value: f32| (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
    Ok(match result {
        DecodingResult::U8(samples) if bits == 8 => (samples, 1),
        DecodingResult::U8(samples) if matches!(bits, 1 | 2 | 4) => {
            (unpack(&samples, bits, width, is_palette), 1)
        }
        DecodingResult::U16(samples) if bits == 16 && !is_palette => {
            (samples.into_iter().map(|value| (value >> 8) as u8).collect(), 2)
        }
        DecodingResult::U32(samples) if bits == 32 => {
            (samples.into_iter().map(|value| (value >> 24) as u8).collect(), 4)
        }
        DecodingResult::F16(samples) => (samples.into_iter().map(|value| unit(value.to_f32())).collect(), 2),
        DecodingResult::F32(samples) => (samples.into_iter().map(unit).collect(), 4),
        DecodingResult::F64(samples) => (samples.into_iter().map(|value| unit(value as f32)).collect(), 8),
        _ => return Err(broken(format!("samples of {bits} bits of this type are not supported"))),
    })
}

/// Unpacks samples of less than a byte. Each row begins with a new byte.
fn unpack(packed: &[u8], bits: u8, width: u32, is_palette: bool) -> Vec<u8> {
    let (width, per_byte) = (width as usize, usize::from(8 / bits));
    let largest = (1u16 << bits) as u8 - 1;
    let scale = if is_palette { 1 } else { 255 / largest };
    let row = |row: &[u8]| -> Vec<u8> {
        let sample = |x: usize| (row[x / per_byte] >> (8 - usize::from(bits) * (x % per_byte + 1))) & largest;
        (0..width).map(|x| sample(x) * scale).collect()
    };
    packed.chunks_exact(width.div_ceil(per_byte).max(1)).flat_map(row).collect()
}

/// The decoder refuses palettes but not greyscale. Returns a copy of a palette file that claims to be greyscale, and
/// whether the file has a palette.
fn palette_as_grey(bytes: &[u8]) -> (Cow<'_, [u8]>, bool) {
    match photometric_interpretation(bytes) {
        Some((at, PALETTE, is_big_endian)) => {
            let mut bytes = bytes.to_vec();
            let value = if is_big_endian { BLACK_IS_ZERO.to_be_bytes() } else { BLACK_IS_ZERO.to_le_bytes() };
            bytes[at..at + 2].copy_from_slice(&value);
            (Cow::Owned(bytes), true)
        }
        _ => (Cow::Borrowed(bytes), false),
    }
}

/// Position and value of the first page's `PhotometricInterpretation`, and whether the file is big-endian.
fn photometric_interpretation(bytes: &[u8]) -> Option<(usize, u16, bool)> {
    let is_big_endian = bytes.starts_with(b"MM\0*");
    if !is_big_endian && !bytes.starts_with(b"II*\0") {
        return None;
    }
    let short = |at: usize| {
        let value: [u8; 2] = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if is_big_endian { u16::from_be_bytes(value) } else { u16::from_le_bytes(value) })
    };
    let first: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
    let directory =
        if is_big_endian { u32::from_be_bytes(first) } else { u32::from_le_bytes(first) } as usize;
    let entries = usize::from(short(directory)?);
    // An entry has 12 bytes: tag, type, number of values, and the value or its position.
    let mut entries = (0..entries).map(|entry| directory + 2 + 12 * entry);
    let entry = entries.find(|&entry| short(entry) == Some(Tag::PhotometricInterpretation.to_u16()))?;
    Some((entry + 8, short(entry + 8)?, is_big_endian))
}
