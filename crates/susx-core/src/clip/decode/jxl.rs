//! JPEG XL, with the decoder jxl-oxide.

use std::borrow::Cow;

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};
use jxl_oxide::image::ExtraChannelType;
use jxl_oxide::{AllocTracker, InitializeResult, JxlImage, JxlThreadPool, PixelFormat};

use super::bmff::{boxes, find};
use super::info::{ImageInfo, mode};
use super::{Admission, ImageLimits, flatten};
use crate::clip::error::{ClipError, Result};

/// Bytes that are read first, until the header is complete.
const STEP: usize = 4096;
/// Bytes that are read at a time after that.
const PIECE: usize = 1 << 20;

fn broken(reason: impl ToString) -> ClipError {
    ClipError::Image { format: Some("JPEG XL"), reason: reason.to_string() }
}

/// Whether the file is a bare codestream, or one in a container.
pub(in crate::clip) fn is_jxl(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\xFF\x0A") || bytes.starts_with(b"\0\0\0\x0CJXL \r\n\x87\n")
}

/// The codestream of a file. Boxes with metadata never reach the decoder, which would decompress them.
fn codestream(bytes: &[u8]) -> Cow<'_, [u8]> {
    if bytes.starts_with(b"\xFF\x0A") {
        return Cow::Borrowed(bytes);
    }
    if let Some(whole) = find(bytes, b"jxlc") {
        return Cow::Borrowed(whole);
    }
    // Each part has a number, but they are in order.
    let parts = boxes(bytes).filter(|it| &it.kind == b"jxlp");
    Cow::Owned(parts.flat_map(|part| part.content.get(4..).unwrap_or_default()).copied().collect())
}

/// Reads a codestream up to its header, or a bit further. Returns the rest of it.
fn header(bytes: &[u8], max_alloc: u64) -> Result<(JxlImage, &[u8])> {
    let tracker = AllocTracker::with_limit(usize::try_from(max_alloc).unwrap_or(usize::MAX));
    let mut image = JxlImage::builder().pool(JxlThreadPool::none()).alloc_tracker(tracker).build_uninit();
    let (mut rest, mut step) = (bytes, STEP);
    while !rest.is_empty() {
        let (next, following) = rest.split_at(step.min(rest.len()));
        image.feed_bytes(next).map_err(broken)?;
        rest = following;
        image = match image.try_init().map_err(broken)? {
            InitializeResult::Initialized(image) => return Ok((image, rest)),
            InitializeResult::NeedMoreData(image) => image,
        };
        // Each attempt starts from the beginning. A header of many steps has a long colour profile.
        step = step.saturating_mul(2);
    }
    Err(broken("the image ends early"))
}

/// Decodes the image, or the first one of an animation, with its orientation applied.
pub(super) fn decode(bytes: &[u8], limits: &Admission) -> Result<(RgbImage, Orientation)> {
    let bytes = codestream(bytes);
    let (mut image, rest) = header(&bytes, limits.max_alloc())?;
    limits.check_pixels(image.width(), image.height())?;
    for piece in rest.chunks(PIECE) {
        if image.num_loaded_keyframes() > 0 {
            break;
        }
        image.feed_bytes(piece).map_err(broken)?;
    }
    if image.num_loaded_keyframes() == 0 {
        return Err(broken("the image ends early"));
    }
    let format = image.pixel_format();
    let is_premultiplied = image
        .image_header()
        .metadata
        .ec_info
        .iter()
        .any(|channel| matches!(channel.ty, ExtraChannelType::Alpha { alpha_associated: true }));
    let render = image.render_frame(0).map_err(broken)?;
    let mut stream = render.stream();
    let (width, height, channels) = (stream.width(), stream.height(), stream.channels());
    let mut samples = vec![0u8; width as usize * height as usize * channels as usize];
    if stream.write_to_buffer(&mut samples) != samples.len() {
        return Err(broken("the image ends early"));
    }
    if is_premultiplied && format.has_alpha() {
        samples.chunks_exact_mut(channels as usize).for_each(divide_by_alpha);
    }
    let image = match format {
        PixelFormat::Gray => image::GrayImage::from_raw(width, height, samples).map(DynamicImage::ImageLuma8),
        PixelFormat::Graya => {
            image::GrayAlphaImage::from_raw(width, height, samples).map(DynamicImage::ImageLumaA8)
        }
        PixelFormat::Rgb => RgbImage::from_raw(width, height, samples).map(DynamicImage::ImageRgb8),
        PixelFormat::Rgba => image::RgbaImage::from_raw(width, height, samples).map(DynamicImage::ImageRgba8),
        PixelFormat::Cmyk | PixelFormat::Cmyka => return Err(broken("CMYK is not supported")),
    };
    let image = image.ok_or_else(|| broken("the image ends early"))?;
    Ok((flatten::on_white(image), Orientation::NoTransforms))
}

/// What the header says. The frames of an animation are counted, but not decoded.
pub(super) fn info(bytes: &[u8], limits: &ImageLimits) -> Result<ImageInfo> {
    let bytes = codestream(bytes);
    let (mut image, rest) = header(&bytes, limits.max_alloc())?;
    let (width, height) = (image.image_header().size.width, image.image_header().size.height);
    let metadata = &image.image_header().metadata;
    let orientation = u8::try_from(metadata.orientation).unwrap_or(1);
    let bits = u8::try_from(metadata.bit_depth.bits_per_sample()).unwrap_or(u8::MAX);
    let is_animated = metadata.animation.is_some();
    let format = image.pixel_format();
    let mode = match format.has_black() {
        true => "CMYK".to_owned(),
        false => mode(format.is_grayscale(), format.has_alpha(), bits),
    };
    if is_animated {
        for piece in rest.chunks(PIECE) {
            image.feed_bytes(piece).map_err(broken)?;
        }
    }
    let frames = u32::try_from(image.num_loaded_keyframes()).unwrap_or(u32::MAX).max(1);
    Ok(ImageInfo { format: "JPEG XL", width, height, orientation, frames, mode })
}

/// Undoes the multiplication of colours by their opacity.
fn divide_by_alpha(pixel: &mut [u8]) {
    if let Some((&mut alpha, colours)) = pixel.split_last_mut()
        && alpha > 0
    {
        for level in colours {
            let (product, alpha) = (u32::from(*level), u32::from(alpha));
            *level = u8::try_from((product * 255 + alpha / 2) / alpha).unwrap_or(u8::MAX);
        }
    }
}
