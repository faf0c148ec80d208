//! What the header of an image file says, without decoding any pixel.

mod gif;
mod jpeg;
mod png;
mod tiff;

use super::{Format, ImageLimits, heif, recognise};
use crate::clip::error::{ClipError, Result};

/// What the header of an image file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// Name of the format, such as `JPEG`: one of [`IMAGE_FORMATS`](super::IMAGE_FORMATS), or `HEIF`.
    pub format: &'static str,
    /// Width in pixels as stored: before the image is turned, but without what a HEIC or AVIF cuts off.
    pub width: u32,
    /// Height in pixels as stored.
    pub height: u32,
    /// How the stored pixels are turned to show the image, as the number that EXIF has for it: 1 to 8.
    pub orientation: u8,
    /// Frames of an animation, pages of a TIFF, pictures of a sequence; at least 1.
    pub frames: u32,
    /// The channels, by Pillow's names: `1`, `L`, `LA`, `P`, `RGB`, `RGBA` or `CMYK`. More than 8 bits per channel
    /// follow a semicolon: `RGB;16`.
    pub mode: String,
}

/// Reads the header of an image file of any of [`IMAGE_FORMATS`](super::IMAGE_FORMATS). Its size in pixels is not
/// limited. What follows the header may be damaged or missing.
///
/// Fails as [`decode_rgb`](super::decode_rgb) does.
pub fn image_info(bytes: &[u8], limits: &ImageLimits) -> Result<ImageInfo> {
    limits.check_bytes(bytes)?;
    match Format::of(bytes) {
        Some(Format::Jpeg) => jpeg::info(bytes),
        Some(Format::Png) => png::info(bytes),
        Some(Format::Gif) => gif::info(bytes),
        Some(Format::WebP) => super::webp::info(bytes),
        Some(Format::Bmp) => super::bmp::info(bytes),
        Some(Format::Tiff) => match recognise::raw_tiff(bytes) {
            Some(what) => Err(recognise::raw_photograph(what)),
            None => tiff::info(bytes),
        },
        Some(Format::Heif) => heif_info(bytes),
        #[cfg(feature = "jpeg-xl")]
        Some(Format::JpegXl) => super::jxl::info(bytes, limits),
        None => Err(recognise::not_an_image(bytes)),
    }
}

fn broken(format: &'static str, reason: impl ToString) -> ClipError {
    ClipError::Image { format: Some(format), reason: reason.to_string() }
}

/// The name of channels of that many bits.
pub(super) fn mode(is_grey: bool, has_alpha: bool, bits: u8) -> String {
    let channels = match (is_grey, has_alpha) {
        (true, false) => "L",
        (true, true) => "LA",
        (false, false) => "RGB",
        (false, true) => "RGBA",
    };
    if bits > 8 { format!("{channels};{bits}") } else { channels.to_owned() }
}

fn heif_info(bytes: &[u8]) -> Result<ImageInfo> {
    let heif = heif::parse(bytes)?;
    let (id, format) = (heif.primary(), heif.format());
    let size = heif.size(id).ok_or_else(|| broken(format, "its size is missing"))?;
    let transforms = heif.transforms(id);
    let (width, height) = transforms.cropped_size(size);
    let (bits, is_grey) = heif.depth(id).unwrap_or((8, false));
    Ok(ImageInfo {
        format,
        width,
        height,
        orientation: transforms.orientation().to_exif(),
        frames: heif.sequence().max(1),
        mode: mode(is_grey, heif.alpha(id).is_some(), bits),
    })
}
