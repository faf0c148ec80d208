//! From the output of the VAE's decoder to 8-bit RGB and PNG.

use std::io::Cursor;

use image::{ImageFormat, RgbImage};
use ndarray::ArrayView3;
use susx_core::onnx::OnnxError;

use super::error::{GenerateError, Result};

/// Converts a decoder's output, 3 × H × W with values from -1 to 1, to pixels. Rounds to the nearest grey level, and
/// halves to the even one, as NumPy does.
pub(super) fn rgb(decoded: ArrayView3<f32>) -> Result<RgbImage> {
    let (channels, height, width) = decoded.dim();
    if channels != 3 {
        let reason = format!("the VAE's decoder returned {channels} channels, expected 3");
        return Err(OnnxError::inference(reason).into());
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

/// Encodes an image as a PNG file.
pub fn png(image: &RgbImage) -> Result<Vec<u8>> {
    let mut file = Cursor::new(Vec::new());
    image
        .write_to(&mut file, ImageFormat::Png)
        .map_err(|error| OnnxError::inference(format!("cannot write a PNG: {error}")))?;
    Ok(file.into_inner())
}
