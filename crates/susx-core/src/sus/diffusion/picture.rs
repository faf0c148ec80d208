//! From the VAE decoder's output to 8-bit RGB and PNG.

use std::io::Cursor;

use image::{ImageFormat, RgbImage};
use ndarray::ArrayView3;

use super::error::{GenerateError, Result};
use crate::clip::ClipError;

/// A decoder's output, 3 × H × W with values from -1 to 1, as pixels: rounded to the nearest grey level, a
/// half to the even one, as numpy does.
pub(super) fn rgb(decoded: ArrayView3<f32>) -> Result<RgbImage> {
    let (channels, height, width) = decoded.dim();
    if channels != 3 {
        let reason = format!("the VAE's decoder gave {channels} channels, expected 3");
        return Err(ClipError::Inference { reason }.into());
    }
    if decoded.iter().any(|value| !value.is_finite()) {
        return Err(GenerateError::NotFinite);
    }
    Ok(RgbImage::from_fn(width as u32, height as u32, |x, y| {
        image::Rgb([0, 1, 2].map(|channel| {
            let value = decoded[[channel, y as usize, x as usize]];
            ((value / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8
        }))
    }))
}

/// The picture as a PNG file.
pub fn png(picture: &RgbImage) -> Result<Vec<u8>> {
    let mut file = Cursor::new(Vec::new());
    picture
        .write_to(&mut file, ImageFormat::Png)
        .map_err(|error| ClipError::Inference { reason: format!("cannot write a PNG: {error}") })?;
    Ok(file.into_inner())
}
