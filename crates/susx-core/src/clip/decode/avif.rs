//! AVIF, with rav1d, a translation of dav1d to Rust.
//!
//! rav1d decodes AV1; what the container says is in [`heif`](super::heif). A panic within rav1d ends the process, because
//! its interface is C's: none is known, and a backend that sent the image gets an error.

use image::metadata::Orientation;
use image::{RgbImage, imageops};
use re_rav1d::dav1d::{Decoder, Error, Picture, Settings};

use super::Admission;
use super::flatten::over_white;
use super::heif::{Heif, broken};
use super::yuv::{self, Levels};
use crate::clip::error::{ClipError, Result};

const FORMAT: &str = "AVIF";

fn failed(error: Error) -> ClipError {
    broken(FORMAT, format!("the AV1 decoder reports: {error}"))
}

/// Decodes the primary image.
pub(super) fn decode(heif: &Heif, limits: &Admission) -> Result<(RgbImage, Orientation)> {
    let (width, height) = heif.check_pixels(limits)?;
    let mut image = compose(heif, heif.primary(), limits, RgbImage::new, |image, picture, x, y, id| {
        let colours = heif.colours(id).or_else(|| heif.colours(heif.primary()));
        imageops::replace(image, &yuv::rgb(picture, colours)?, x.into(), y.into());
        Ok(())
    })?;
    if image.dimensions() != (width, height) {
        let (found_width, found_height) = image.dimensions();
        let reason = format!("it has {found_width} × {found_height} pixels instead of {width} × {height}");
        return Err(broken(FORMAT, reason));
    }
    if let Some((alpha, is_premultiplied)) = heif.alpha(heif.primary()) {
        let levels = compose(heif, alpha, limits, Levels::new, |levels, picture, x, y, _| {
            levels.copy_luma(picture, x, y)
        })?;
        if levels.size() != (width, height) {
            return Err(broken(FORMAT, "its transparency has another size than the image"));
        }
        for (pixel, &alpha) in image.pixels_mut().zip(levels.as_slice()) {
            pixel.0 = pixel.0.map(|level| match is_premultiplied {
                true => level.saturating_add(255 - alpha),
                false => over_white(level, alpha),
            });
        }
    }
    let transforms = heif.transforms(heif.primary());
    Ok((transforms.cropped(image), transforms.orientation()))
}

/// Decodes an item, or the tiles of its grid, and puts each at its place.
fn compose<T>(
    heif: &Heif,
    id: u32,
    limits: &Admission,
    new: impl Fn(u32, u32) -> T,
    mut put: impl FnMut(&mut T, &Picture, u32, u32, u32) -> Result<()>,
) -> Result<T> {
    let Some(grid) = heif.grid(id)? else {
        let picture = decode_item(heif, id, limits)?;
        let mut whole = new(picture.width(), picture.height());
        put(&mut whole, &picture, 0, 0, id)?;
        return Ok(whole);
    };
    limits.limits.check_pixels(grid.width, grid.height)?;
    let mut whole = new(grid.width, grid.height);
    let mut first_size = None;
    for (index, &tile) in grid.tiles.iter().enumerate() {
        let picture = decode_item(heif, tile, limits)?;
        let size = (picture.width(), picture.height());
        if *first_size.get_or_insert(size) != size || !grid.fits(size) {
            return Err(broken(FORMAT, "its tiles do not fit together"));
        }
        let index = index as u32;
        put(&mut whole, &picture, index % grid.columns * size.0, index / grid.columns * size.1, tile)?;
    }
    Ok(whole)
}

fn decode_item(heif: &Heif, id: u32, limits: &Admission) -> Result<Picture> {
    if &heif.codec(id) != b"av01" {
        return Err(broken(FORMAT, "one of its parts is not encoded with AV1"));
    }
    let mut settings = Settings::new();
    // The server decodes several images at the same time.
    settings.set_n_threads(1);
    settings.set_max_frame_delay(1);
    settings.set_all_layers(false);
    settings.set_frame_size_limit(u32::try_from(limits.limits.max_pixels).unwrap_or(u32::MAX));
    let mut decoder = Decoder::with_settings(&settings).map_err(failed)?;
    let mut sent = decoder.send_data(heif.data(id)?, None, None, None);
    loop {
        let is_all_sent = match sent {
            Ok(()) => true,
            Err(Error::Again) => false,
            Err(error) => return Err(failed(error)),
        };
        match decoder.get_picture() {
            Ok(picture) => return Ok(picture),
            Err(Error::Again) if is_all_sent => return Err(broken(FORMAT, "the image ends early")),
            Err(Error::Again) => sent = decoder.send_pending_data(),
            Err(error) => return Err(failed(error)),
        }
    }
}
