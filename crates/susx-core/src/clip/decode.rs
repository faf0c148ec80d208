//! From the bytes of an image file to upright RGB pixels.
//!
//! Each format has its own decoder. This module has what they have in common: the limits, the orientation and the
//! conversion to RGB.

#[cfg(feature = "avif")]
mod avif;
mod bmff;
mod bmp;
mod flatten;
mod gif;
// Without AVIF, only its headers are read.
#[cfg_attr(not(feature = "avif"), allow(dead_code))]
mod heif;
pub(super) mod info;
mod jpeg;
#[cfg(feature = "jpeg-xl")]
mod jxl;
#[cfg(feature = "heic")]
mod libheif;
mod orientation;
mod png;
mod recognise;
mod tiff;
mod webp;
#[cfg(feature = "avif")]
mod yuv;

use std::cell::Cell;

use image::metadata::Orientation;
use image::{DynamicImage, ImageFormat, RgbImage};

use super::error::{ClipError, Result};
use super::picture::Picture;

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

    /// Fails if a file exceeds the limit.
    fn check_bytes(&self, bytes: &[u8]) -> Result<()> {
        let (limit, found) = (self.max_bytes as u64, bytes.len() as u64);
        match found <= limit {
            true => Ok(()),
            false => Err(ClipError::ImageTooLarge { unit: "bytes", limit, found }),
        }
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
        self.check_size(width, height)?;
        self.admit(u64::from(width) * u64::from(height));
        Ok(())
    }

    /// Fails if an image of this size exceeds the limit.
    fn check_size(&self, width: u32, height: u32) -> Result<()> {
        self.limits.check_pixels(width, height)
    }

    /// Waits until the callback admits the memory of this many pixels. Only the first call of an image does.
    fn admit(&self, pixels: u64) {
        if !self.admitted.replace(true) {
            (self.admit)(pixels);
        }
    }
}

/// The formats that are decoded, by their names in messages.
pub const IMAGE_FORMATS: &[&str] = &[
    "JPEG",
    "PNG",
    "GIF",
    "WebP",
    "BMP",
    "TIFF",
    #[cfg(feature = "avif")]
    "AVIF",
    #[cfg(feature = "heic")]
    "HEIC",
    #[cfg(feature = "jpeg-xl")]
    "JPEG XL",
];

/// A family of formats with a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Jpeg,
    Png,
    Gif,
    WebP,
    Bmp,
    Tiff,
    /// HEIC and AVIF.
    Heif,
    #[cfg(feature = "jpeg-xl")]
    JpegXl,
}

impl Format {
    /// The format that the first bytes name; `None` if none is known.
    fn of(bytes: &[u8]) -> Option<Format> {
        if tiff::is_tiff(bytes) {
            return Some(Format::Tiff);
        }
        #[cfg(feature = "jpeg-xl")]
        if jxl::is_jxl(bytes) {
            return Some(Format::JpegXl);
        }
        match image::guess_format(bytes) {
            Ok(ImageFormat::Jpeg) => Some(Format::Jpeg),
            Ok(ImageFormat::Png) => Some(Format::Png),
            Ok(ImageFormat::Gif) => Some(Format::Gif),
            Ok(ImageFormat::WebP) => Some(Format::WebP),
            Ok(ImageFormat::Bmp) => Some(Format::Bmp),
            _ => heif::is_heif(bytes).then_some(Format::Heif),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "JPEG",
            Format::Png => "PNG",
            Format::Gif => "GIF",
            Format::WebP => "WebP",
            Format::Bmp => "BMP",
            Format::Tiff => "TIFF",
            Format::Heif => "HEIC or AVIF",
            #[cfg(feature = "jpeg-xl")]
            Format::JpegXl => "JPEG XL",
        }
    }
}

/// Decodes an image of any of [`IMAGE_FORMATS`] to upright 8-bit RGB on white, as a viewer would show it.
///
/// * The first bytes determine the format, never a name.
/// * Only the first image of an animation or a multi-page file is decoded, and the primary one of a HEIC or AVIF.
/// * The orientation that a camera stored (EXIF, or TIFF's tag) is applied. HEIC, AVIF and JPEG XL have orientations of
///   their own, and EXIF's does not count.
/// * Transparent pixels are laid on white. (`convert("RGB")` of Pillow, and so OpenAI's CLIP, shows the
///   colours stored for transparent pixels, often black or noise.)
/// * Channels of more than 8 bits are scaled to 8, floating-point values from the range 0 to 1. (Pillow
///   clips 16-bit greyscale at 255.) Other floating-point values are an error.
/// * CMYK becomes RGB by Pillow's formula. Colour profiles are ignored, as CLIP does.
/// * A truncated or damaged image is an error, never an image that is partly grey.
///
/// `limits` bounds memory and time. No input is known that makes a decoder panic, but the caller should catch panics.
///
/// Fails with [`ClipError::Image`], [`ClipError::NotAnImage`], [`ClipError::NoDecoder`] or [`ClipError::ImageTooLarge`].
pub fn decode_rgb(bytes: &[u8], limits: &ImageLimits) -> Result<RgbImage> {
    decode_picture(bytes, limits, &|_, _| 1, &|_| ()).map(Picture::into_image)
}

/// Like [`decode_rgb`], but a JPEG may be decoded at a fraction of its size, which is faster and takes less memory.
///
/// `reduction` gets the upright width and height of the picture, and returns the number by which both may be divided.
/// The decoder divides by 1, 2, 4 or 8, and by no more than that number.
///
/// Calls `admit` with the number of pixels before any pixel is decoded; it may wait until there is memory for them. A
/// decoder takes at most 24 bytes for each, and a small amount for each image.
pub fn decode_picture(
    bytes: &[u8],
    limits: &ImageLimits,
    reduction: &dyn Fn(u32, u32) -> u32,
    admit: &dyn Fn(u64),
) -> Result<Picture> {
    let admission = Admission { limits, admit, admitted: Cell::new(false) };
    limits.check_bytes(bytes)?;
    let (image, orientation) = match Format::of(bytes) {
        Some(Format::Jpeg) => return jpeg::decode(bytes, &admission, reduction),
        Some(Format::Tiff) => match recognise::raw_tiff(bytes) {
            Some(what) => return Err(recognise::raw_photograph(what)),
            None => tiff::decode(bytes, &admission)?,
        },
        Some(Format::WebP) => webp::decode(bytes, &admission)?,
        Some(Format::Png) => png::decode(bytes, &admission)?,
        Some(Format::Gif) => (gif::decode(bytes, &admission)?, Orientation::NoTransforms),
        Some(Format::Bmp) => (bmp::decode(bytes, &admission)?, Orientation::NoTransforms),
        Some(Format::Heif) => decode_heif(bytes, &admission)?,
        #[cfg(feature = "jpeg-xl")]
        Some(Format::JpegXl) => jxl::decode(bytes, &admission)?,
        None => return Err(recognise::not_an_image(bytes)),
    };
    let mut image = DynamicImage::ImageRgb8(image);
    image.apply_orientation(orientation);
    Ok(image.into_rgb8().into())
}

/// The name of the format that the first bytes are of, such as `JPEG`; `None` if none is known.
pub fn image_format(bytes: &[u8]) -> Option<&'static str> {
    Format::of(bytes).map(Format::name)
}

/// Decodes HEIC or AVIF, by the codec of its image and not by its name.
#[cfg_attr(not(any(feature = "avif", feature = "heic")), allow(unused_variables))]
fn decode_heif(bytes: &[u8], admission: &Admission) -> Result<(RgbImage, Orientation)> {
    let heif = heif::parse(bytes)?;
    match &heif.codec(heif.primary()) {
        #[cfg(feature = "avif")]
        b"av01" => avif::decode(&heif, admission),
        #[cfg(feature = "heic")]
        _ => libheif::decode(bytes, &heif, admission),
        #[cfg(not(feature = "heic"))]
        _ => Err(recognise::not_an_image(bytes)),
    }
}
