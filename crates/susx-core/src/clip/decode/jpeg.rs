//! JPEG, with the `zune-jpeg` decoder, or with `jpeg-decoder` where the former is wrong.
//!
//! The `image` crate uses `zune-jpeg` too, but lets it tolerate damaged data, copies the file, and parses its headers
//! three times. `jpeg-decoder` is much slower on small images.

use image::RgbImage;
use image::metadata::Orientation;
use jpeg_decoder::PixelFormat;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::Admission;
use crate::clip::error::{ClipError, Result};

fn broken(reason: impl ToString) -> ClipError {
    // The decoders wrap some messages in quotes and append line ends to others.
    let reason = reason.to_string();
    let reason = reason.trim().trim_matches('"').trim_end_matches("\\n").to_owned();
    ClipError::Image { format: Some("JPEG"), reason }
}

/// Decodes a JPEG of any colour space to RGB. CMYK is read as inverted, as Adobe writes it and as
/// Pillow reads it.
///
/// A file with an end marker in the middle of the image cannot be distinguished from a complete one. No decoder
/// reports it, not even libjpeg.
pub(super) fn decode(bytes: &[u8], limits: &Admission) -> Result<(RgbImage, Orientation)> {
    let failed = |error: DecodeErrors| broken(error);
    let options = DecoderOptions::default().set_max_width(usize::MAX).set_max_height(usize::MAX);
    let options = options.jpeg_set_out_colorspace(ColorSpace::RGB);
    // Stray bytes between the headers are harmless, and some cameras write them.
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options.set_strict_mode(false));
    decoder.decode_headers().map_err(failed)?;
    let (width, height) = decoder.info().map_or((0, 0), |info| (info.width, info.height));
    limits.check_pixels(width.into(), height.into())?;
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    let orientation = orientation.unwrap_or(Orientation::NoTransforms);
    let scan = first_scan(bytes)?;
    // The decoder notices the end of the data only before each row of blocks.
    if !bytes[scan.start..].windows(2).rev().any(|pair| pair == END_OF_IMAGE) {
        return Err(broken("the image ends early"));
    }
    if scan.lacks_components {
        return Ok((decode_split_scans(bytes, limits)?, orientation));
    }

    // In strict mode a truncated or damaged scan is an error.
    decoder.set_options(options.set_strict_mode(true));
    let mut image = RgbImage::new(width.into(), height.into());
    decoder.decode_into(&mut image).map_err(failed)?;
    Ok((image, orientation))
}

/// The marker after the last scan, which entropy-coded data cannot contain.
const END_OF_IMAGE: [u8; 2] = [0xFF, 0xD9];

/// The first scan.
struct Scan {
    /// Position after its marker.
    start: usize,
    /// Whether the file is sequential (not progressive) and this scan lacks some of its colour components.
    /// `zune-jpeg` 0.5.15 decodes such files to green stripes without an error.
    lacks_components: bool,
}

/// Walks through the headers up to the first scan.
fn first_scan(bytes: &[u8]) -> Result<Scan> {
    let mut components = None;
    let mut at = 2;
    while let Some(&[first, marker, high, low, ref rest @ ..]) = bytes.get(at..) {
        let length = usize::from(u16::from_be_bytes([high, low]));
        match (first, marker) {
            // Fill bytes, or stray bytes between two segments.
            (0xFF, 0x00 | 0xFF) | (0..0xFF, _) => {
                at += 1;
                continue;
            }
            // Baseline and extended sequential frames: precision, height, width, number of components.
            (0xFF, 0xC0 | 0xC1) => components = rest.get(5),
            (0xFF, 0xC4) => check_huffman_tables(&rest[..rest.len().min(length.saturating_sub(2))])?,
            (0xFF, 0xDA) => return Ok(Scan { start: at + 2, lacks_components: rest.first() < components }),
            _ => {}
        }
        at += 2 + length;
    }
    Err(broken("there is no image"))
}

/// Refuses a Huffman table for DC coefficients that has a value twice.
///
/// No encoder writes such a table: an encoder's table has one code for each value (T.81, C.3; `libjpeg` checks it in
/// `jpeg_make_c_derived_tbl`), so the table is damaged. A damaged value adds up in the DC coefficients of all following
/// blocks until they overflow, with results that depend on the decoder.
fn check_huffman_tables(mut tables: &[u8]) -> Result<()> {
    while let [kind, rest @ ..] = tables
        && let Some((counts, rest)) = rest.split_first_chunk::<16>()
    {
        let count = counts.iter().copied().map(usize::from).sum::<usize>();
        let (values, following) = rest.split_at(count.min(rest.len()));
        let is_for_dc = kind >> 4 == 0;
        if is_for_dc && (1..values.len()).any(|i| values[..i].contains(&values[i])) {
            return Err(broken("a Huffman table has two codes for one value"));
        }
        tables = following;
    }
    Ok(())
}

/// Decodes a file whose first scan [lacks components](Scan::lacks_components). It may start threads, which end before
/// it returns.
fn decode_split_scans(bytes: &[u8], limits: &Admission) -> Result<RgbImage> {
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    decoder.set_max_decoding_buffer_size(usize::try_from(limits.max_alloc()).unwrap_or(usize::MAX));
    let pixels = decoder.decode().map_err(broken)?;
    let info = decoder.info().ok_or_else(|| broken("there is no image"))?;
    let product = |a: u8, b: u8| ((u16::from(a) * u16::from(b) + 127) / 255) as u8;
    let pixels = match info.pixel_format {
        PixelFormat::RGB24 => pixels,
        PixelFormat::L8 => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
        PixelFormat::CMYK32 => {
            let rgb = |inks: &[u8]| [0, 1, 2].map(|channel| product(255 - inks[channel], 255 - inks[3]));
            pixels.chunks_exact(4).flat_map(rgb).collect()
        }
        PixelFormat::L16 => return Err(broken("16-bit samples are not supported")),
    };
    RgbImage::from_raw(info.width.into(), info.height.into(), pixels)
        .ok_or_else(|| broken("the image ends early"))
}
