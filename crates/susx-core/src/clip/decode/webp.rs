//! WebP, with the decoder of the `image` crate, but within a memory limit, and with libwebp's patience.
//!
//! `image` sets no limit. A file of a hundred bytes could then make the decoder allocate up to 4 GB, by stating that
//! length for its metadata. And its decoder rejects files that announce metadata or transparency that they do not have,
//! which are common on the web.

use std::borrow::Cow;
use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage, RgbaImage};
use image_webp::{DecodingError, WebPDecoder};

use super::info::{self, ImageInfo};
use super::{Admission, flatten};
use crate::clip::error::{ClipError, Result};

fn broken(error: DecodingError) -> ClipError {
    ClipError::Image { format: Some("WebP"), reason: error.to_string() }
}

/// Decodes the image, or the first one of an animation.
pub(super) fn decode(bytes: &[u8], limits: &Admission) -> Result<(RgbImage, Orientation)> {
    let picture = Flags::of(bytes).without_promises(bytes);
    let mut decoder = decoder(&picture)?;
    let (width, height) = decoder.dimensions();
    limits.check_pixels(width, height)?;
    let image = if decoder.has_alpha() {
        let mut image = RgbaImage::new(width, height);
        decoder.read_image(&mut image).map_err(broken)?;
        DynamicImage::ImageRgba8(image)
    } else {
        let mut image = RgbImage::new(width, height);
        decoder.read_image(&mut image).map_err(broken)?;
        DynamicImage::ImageRgb8(image)
    };
    Ok((flatten::on_white(image), orientation(bytes)))
}

/// How the picture is turned to be upright.
fn orientation(bytes: &[u8]) -> Orientation {
    let flags = Flags::of(bytes);
    let metadata = |flag: u8, name: &[u8; 4]| {
        // libwebp ignores metadata that are not announced.
        chunks(bytes).find(|(found, _)| found == name).map(|(_, content)| content).filter(|_| flags.has(flag))
    };
    super::orientation::of(metadata(EXIF, b"EXIF"), metadata(XMP, b"XMP "))
}

fn decoder(picture: &[u8]) -> Result<WebPDecoder<Cursor<&[u8]>>> {
    let mut decoder = WebPDecoder::new(Cursor::new(picture)).map_err(broken)?;
    // No chunk can be longer than the file.
    decoder.set_memory_limit(picture.len());
    Ok(decoder)
}

/// What the headers say.
pub(super) fn info(bytes: &[u8]) -> Result<ImageInfo> {
    let picture = Flags::of(bytes).without_promises(bytes);
    let decoder = decoder(&picture)?;
    let (width, height) = decoder.dimensions();
    Ok(ImageInfo {
        format: "WebP",
        width,
        height,
        orientation: orientation(bytes).to_exif(),
        frames: decoder.num_frames().max(1),
        mode: info::mode(false, decoder.has_alpha(), 8),
    })
}

/// Flags of the extended header.
const ANIMATION: u8 = 0x02;
const XMP: u8 = 0x04;
const EXIF: u8 = 0x08;
const ALPHA: u8 = 0x10;
const PROFILE: u8 = 0x20;

/// What the extended header announces, if there is one.
struct Flags(Option<u8>);

/// Position of the flags.
const AT: usize = 20;

impl Flags {
    fn of(bytes: &[u8]) -> Flags {
        Flags(bytes.get(AT).copied().filter(|_| bytes.get(12..16) == Some(b"VP8X")))
    }

    fn has(&self, flag: u8) -> bool {
        self.0.is_some_and(|flags| flags & flag != 0)
    }

    /// The file with a header that announces no metadata, and announces transparency only for a still picture that has
    /// it.
    fn without_promises<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(flags) = self.0 else { return Cow::Borrowed(bytes) };
        let content =
            |name: &[u8; 4]| chunks(bytes).find(|(found, _)| found == name).map(|(_, content)| content);
        let transparency = match (flags & ANIMATION, content(b"VP8L"), content(b"VP8 ")) {
            (0, Some(lossless), _) if lossless.get(4).is_some_and(|bits| bits & 0x10 != 0) => ALPHA,
            (0, None, Some(_)) if content(b"ALPH").is_none() => 0,
            _ => flags & ALPHA,
        };
        let kept = flags & !(EXIF | XMP | PROFILE | ALPHA) | transparency;
        if kept == flags {
            return Cow::Borrowed(bytes);
        }
        let mut bytes = bytes.to_vec();
        bytes[AT] = kept;
        Cow::Owned(bytes)
    }
}

/// Names and contents of the chunks, until one that ends early.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = bytes.get(12..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (head, after) = rest.split_at_checked(8)?;
        let (name, length) = head.split_at(4);
        let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
        let content = after.get(..length)?;
        // Padded to an even length.
        rest = after.get(length.saturating_add(length % 2)..).unwrap_or_default();
        Some((name, content))
    })
}
