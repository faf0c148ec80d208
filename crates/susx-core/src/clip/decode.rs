//! From the bytes of an image file to upright RGB pixels.
//!
//! Each format has its own decoder. This module has what they have in common: the limits, the orientation and the
//! conversion to RGB.

mod flatten;
mod jpeg;
mod tiff;
mod webp;

use std::cell::Cell;
use std::error::Error as _;
use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use super::error::{ClipError, Result};

/// Limits of an image. Both are checked before any pixel is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLimits {
    /// Limit of the file's size, in bytes.
    pub max_bytes: usize,
    /// Limit of width × height, in pixels. A decoder uses at most 16 bytes of memory for each pixel
    /// (an RGBA pixel of four 32-bit floats), plus 16 MiB.
    pub max_pixels: u64,
}

impl Default for ImageLimits {
    /// 32 MiB and 64 megapixels.
    fn default() -> Self {
        ImageLimits { max_bytes: 32 << 20, max_pixels: 64_000_000 }
    }
}

impl ImageLimits {
    /// Memory limit of a decoder, in bytes.
    fn max_alloc(&self) -> u64 {
        self.max_pixels.saturating_mul(16).saturating_add(16 << 20)
    }

    /// Fails if an image of this size exceeds the limit.
    fn check_pixels(&self, width: u32, height: u32) -> Result<()> {
        let found = u64::from(width) * u64::from(height);
        match found <= self.max_pixels {
            true => Ok(()),
            false => Err(ClipError::ImageTooLarge { unit: "pixels", limit: self.max_pixels, found }),
        }
    }
}

/// The limits of one image, and the callback that admits it.
struct Admission<'a> {
    limits: &'a ImageLimits,
    admit: &'a dyn Fn(u64),
    admitted: Cell<bool>,
}

impl Admission<'_> {
    fn max_alloc(&self) -> u64 {
        self.limits.max_alloc()
    }

    /// Fails if an image of this size exceeds the limit, else waits until the callback admits it.
    fn check_pixels(&self, width: u32, height: u32) -> Result<()> {
        self.limits.check_pixels(width, height)?;
        if !self.admitted.replace(true) {
            (self.admit)(u64::from(width) * u64::from(height));
        }
        Ok(())
    }
}

/// The formats that are decoded, by their names in messages.
pub const IMAGE_FORMATS: [&str; 6] = ["JPEG", "PNG", "GIF", "WebP", "BMP", "TIFF"];

/// Decodes an image of any of [`IMAGE_FORMATS`] to upright 8-bit RGB on white, as a viewer would show it.
///
/// * The first bytes determine the format, never a name.
/// * Only the first image of an animation or a multi-page file is decoded.
/// * The orientation that a camera stored (EXIF, or TIFF's tag) is applied.
/// * Transparent pixels are laid on white. (`convert("RGB")` of Pillow, and so OpenAI's CLIP, shows the
///   colours stored for transparent pixels, often black or noise.)
/// * Channels of more than 8 bits are scaled to 8, floating-point values from the range 0 to 1. (Pillow
///   clips 16-bit greyscale at 255.)
/// * CMYK becomes RGB by Pillow's formula. Colour profiles are ignored, as CLIP does.
/// * A truncated or damaged image is an error, never an image that is partly grey. (The exception is a
///   JPEG that was truncated and then closed with a valid end marker, which cannot be detected.)
///
/// `limits` bounds memory and time. No input is known that makes a decoder panic, but the caller should catch panics.
///
/// Fails with [`ClipError::Image`] or [`ClipError::ImageTooLarge`].
pub fn decode_rgb(bytes: &[u8], limits: &ImageLimits) -> Result<RgbImage> {
    decode_rgb_when(bytes, limits, &|_| ())
}

/// As [`decode_rgb`]. Calls `admit` with the number of pixels before any pixel is decoded; it may wait until there is
/// memory for them.
pub fn decode_rgb_when(bytes: &[u8], limits: &ImageLimits, admit: &dyn Fn(u64)) -> Result<RgbImage> {
    let admission = Admission { limits, admit, admitted: Cell::new(false) };
    if bytes.is_empty() {
        return Err(ClipError::Image { format: None, reason: "there are no bytes".into() });
    }
    if bytes.len() > limits.max_bytes {
        let (limit, found) = (limits.max_bytes as u64, bytes.len() as u64);
        return Err(ClipError::ImageTooLarge { unit: "bytes", limit, found });
    }
    // The `image` crate does not recognise BigTIFF, the variant of TIFF for files above 4 GB.
    let is_big_tiff = bytes.starts_with(b"II+\0") || bytes.starts_with(b"MM\0+");
    let (image, orientation) = match image::guess_format(bytes) {
        _ if is_big_tiff => tiff::decode(bytes, &admission)?,
        Ok(ImageFormat::Jpeg) => jpeg::decode(bytes, &admission)?,
        Ok(ImageFormat::Tiff) => tiff::decode(bytes, &admission)?,
        Ok(ImageFormat::WebP) => webp::decode(bytes, &admission)?,
        Ok(ImageFormat::Png) => decode(bytes, &admission, ImageFormat::Png, "PNG")?,
        Ok(ImageFormat::Gif) => decode(bytes, &admission, ImageFormat::Gif, "GIF")?,
        Ok(ImageFormat::Bmp) => decode(bytes, &admission, ImageFormat::Bmp, "BMP")?,
        Ok(other) => {
            return Err(unsupported(&format!(
                "{} images are not supported",
                format!("{other:?}").to_uppercase()
            )));
        }
        Err(_) => return Err(unsupported("the first bytes are of no known format")),
    };
    let mut image = DynamicImage::ImageRgb8(image);
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

fn unsupported(what: &str) -> ClipError {
    ClipError::Image { format: None, reason: format!("{what} (supported: {})", IMAGE_FORMATS.join(", ")) }
}

/// Decodes a format that the `image` crate handles as we need it.
fn decode(
    bytes: &[u8],
    limits: &Admission,
    format: ImageFormat,
    name: &'static str,
) -> Result<(RgbImage, Orientation)> {
    let broken = |error: ImageError| {
        // The outer message merely repeats the format.
        let reason = error.source().map_or_else(|| error.to_string(), |source| source.to_string());
        ClipError::Image { format: Some(name), reason }
    };
    // Checked here, because the PNG decoder reports a size beyond its memory limit in its own words.
    if let (ImageFormat::Png, Some(&[b'I', b'H', b'D', b'R', w0, w1, w2, w3, h0, h1, h2, h3])) =
        (format, bytes.get(12..24))
    {
        limits.check_pixels(u32::from_be_bytes([w0, w1, w2, w3]), u32::from_be_bytes([h0, h1, h2, h3]))?;
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut bounds = Limits::default();
    bounds.max_alloc = Some(limits.max_alloc());
    reader.limits(bounds);
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    limits.check_pixels(width, height)?;
    // Broken metadata must not make the image fail.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(broken)?;
    Ok((flatten::on_white(image), orientation))
}
