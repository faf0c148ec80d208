//! From the bytes of an image file to upright RGB pixels.
//!
//! The formats are decoded by one crate each; this module holds what they have in common: the limits, the
//! orientation and the flattening to RGB.

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

/// What an image may cost. Both are checked before any pixel is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLimits {
    /// The longest file, in bytes.
    pub max_bytes: usize,
    /// The largest picture: width × height, in pixels. A decoder takes at most 16 bytes of memory
    /// for each of them (an RGBA pixel of four 32-bit floats) and 16 MiB.
    pub max_pixels: u64,
}

impl Default for ImageLimits {
    /// 32 MiB and 64 megapixels.
    fn default() -> Self {
        ImageLimits { max_bytes: 32 << 20, max_pixels: 64_000_000 }
    }
}

impl ImageLimits {
    /// The most memory that a decoder may allocate, in bytes.
    fn max_alloc(&self) -> u64 {
        self.max_pixels.saturating_mul(16).saturating_add(16 << 20)
    }

    /// Whether a picture of this size may be decoded.
    fn check_pixels(&self, width: u32, height: u32) -> Result<()> {
        let found = u64::from(width) * u64::from(height);
        match found <= self.max_pixels {
            true => Ok(()),
            false => Err(ClipError::ImageTooLarge { unit: "pixels", limit: self.max_pixels, found }),
        }
    }
}

/// The limits of one image, and who is asked before it is decoded.
struct Room<'a> {
    limits: &'a ImageLimits,
    admit: &'a dyn Fn(u64),
    admitted: Cell<bool>,
}

impl Room<'_> {
    fn max_alloc(&self) -> u64 {
        self.limits.max_alloc()
    }

    /// Whether a picture of this size may be decoded; waits until it is its turn.
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

/// Decodes an image of any of [`IMAGE_FORMATS`] to upright 8-bit RGB, as a viewer shows it on white.
///
/// * The format is told by the first bytes, never by a name.
/// * Of an animation or a multi-page file it is the first picture.
/// * The orientation that a camera stored (EXIF, or TIFF's tag) is applied.
/// * What is transparent shows white. (`convert("RGB")` of Pillow, and so OpenAI's CLIP, shows what is
///   stored below the transparency, often black or noise.)
/// * More than 8 bits per channel are scaled to 8, floating-point values from 0 to 1. (Pillow cuts
///   16-bit greyscale off at 255.)
/// * CMYK becomes RGB by Pillow's formula. Colour profiles are ignored, as CLIP does.
/// * A file whose picture ends early or is damaged is an error, never a picture that is grey in part.
///   (One case nobody can tell: a JPEG that was cut off and then closed with a proper end marker.)
///
/// Memory and time are bounded by `limits`. No panic of a decoder is known; should one come
/// nevertheless, it is the caller who catches it.
pub fn decode_rgb(bytes: &[u8], limits: &ImageLimits) -> Result<RgbImage> {
    decode_rgb_when(bytes, limits, &|_| ())
}

/// The same. `admit` is called with the number of pixels before any is decoded, and may wait until there is memory for
/// them.
pub fn decode_rgb_when(bytes: &[u8], limits: &ImageLimits, admit: &dyn Fn(u64)) -> Result<RgbImage> {
    let room = Room { limits, admit, admitted: Cell::new(false) };
    if bytes.is_empty() {
        return Err(ClipError::Image { format: None, reason: "there are no bytes".into() });
    }
    if bytes.len() > limits.max_bytes {
        let (limit, found) = (limits.max_bytes as u64, bytes.len() as u64);
        return Err(ClipError::ImageTooLarge { unit: "bytes", limit, found });
    }
    // The `image` crate does not know the variant of TIFF for files above 4 GB.
    let is_big_tiff = bytes.starts_with(b"II+\0") || bytes.starts_with(b"MM\0+");
    let (image, orientation) = match image::guess_format(bytes) {
        _ if is_big_tiff => tiff::decode(bytes, &room)?,
        Ok(ImageFormat::Jpeg) => jpeg::decode(bytes, &room)?,
        Ok(ImageFormat::Tiff) => tiff::decode(bytes, &room)?,
        Ok(ImageFormat::WebP) => webp::decode(bytes, &room)?,
        Ok(ImageFormat::Png) => decode(bytes, &room, ImageFormat::Png, "PNG")?,
        Ok(ImageFormat::Gif) => decode(bytes, &room, ImageFormat::Gif, "GIF")?,
        Ok(ImageFormat::Bmp) => decode(bytes, &room, ImageFormat::Bmp, "BMP")?,
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

/// A format that the `image` crate decodes as we want it.
fn decode(
    bytes: &[u8],
    limits: &Room,
    format: ImageFormat,
    name: &'static str,
) -> Result<(RgbImage, Orientation)> {
    let broken = |error: ImageError| {
        // The outer message only repeats the format.
        let reason = error.source().map_or_else(|| error.to_string(), |source| source.to_string());
        ClipError::Image { format: Some(name), reason }
    };
    // PNG's decoder would report a size beyond its memory limit in words of its own.
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
    // Broken metadata are no reason to refuse a picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(broken)?;
    Ok((flatten::on_white(image), orientation))
}
