//! JPEG, with libjpeg-turbo: the pixels are those of Pillow, to the bit.
//!
//! libjpeg decides what colours the components are (from the JFIF and Adobe markers and their ids), and what is damage.
//! Where it only warns about damage in the picture, decoding fails.

mod libjpeg;
mod metadata;
mod problem;

use image::RgbImage;
use mozjpeg_sys::J_COLOR_SPACE;

pub(super) use self::libjpeg::Decompressor;
pub(super) use self::metadata::orientation;
pub(super) use self::problem::Problem;
use super::Admission;
use crate::clip::error::{ClipError, Result};
use crate::clip::picture::Picture;

/// What [`Admission`] reckons with for each pixel, in bytes. Pixels and their turned copy take 6.
const BYTES_PER_PIXEL: u64 = 24;

impl From<Problem> for ClipError {
    fn from(Problem(reason): Problem) -> Self {
        ClipError::Image { format: Some("JPEG"), reason }
    }
}

/// Decodes a JPEG of any colour space to upright RGB. CMYK is read as inverted, as Adobe writes it and as Pillow reads
/// it.
///
/// `reduction` gets the width and height of the upright picture, and returns the number by which both may be divided.
///
/// Data of arithmetic coding that end early are read as zeros, which the standard allows. libjpeg reports all others.
pub(super) fn decode(
    bytes: &[u8],
    limits: &Admission,
    reduction: &dyn Fn(u32, u32) -> u32,
) -> Result<Picture> {
    let mut decompressor = Decompressor::new(bytes)?;
    let full_size @ (width, height) = decompressor.size();
    limits.check_size(width, height)?;
    let orientation = orientation(bytes);

    let colors = match decompressor.color_space() {
        J_COLOR_SPACE::JCS_GRAYSCALE | J_COLOR_SPACE::JCS_RGB | J_COLOR_SPACE::JCS_YCbCr => {
            J_COLOR_SPACE::JCS_RGB
        }
        J_COLOR_SPACE::JCS_CMYK | J_COLOR_SPACE::JCS_YCCK => J_COLOR_SPACE::JCS_CMYK,
        _ => return Err(Problem::new("only images with 1, 3 or 4 components are supported").into()),
    };
    let is_upright = orientation.to_exif() < 5;
    let (upright_width, upright_height) = if is_upright { (width, height) } else { (height, width) };
    let divisor = match reduction(upright_width, upright_height) {
        0..=1 => 1,
        2..=3 => 2,
        4..=7 => 4,
        8.. => 8,
    };
    let (reduced_width, reduced_height) = decompressor.choose(colors, divisor)?;
    let pixels = u64::from(reduced_width) * u64::from(reduced_height);
    let coefficients = decompressor.coefficient_bytes();
    if coefficients > limits.max_alloc() {
        return Err(Problem::new(format!("it needs {coefficients} bytes of memory for its scans")).into());
    }
    limits.admit(pixels.max((coefficients + 6 * pixels).div_ceil(BYTES_PER_PIXEL)));

    decompressor.start()?;
    let mut image = RgbImage::new(reduced_width, reduced_height);
    match colors {
        J_COLOR_SPACE::JCS_CMYK => read_cmyk(&mut decompressor, &mut image)?,
        _ => decompressor.read(&mut image)?,
    }
    decompressor.finish()?;
    drop(decompressor);
    Ok(Picture::reduced(image, orientation, full_size, divisor))
}

fn read_cmyk(decompressor: &mut Decompressor, image: &mut RgbImage) -> Result<()> {
    let mut inks = vec![0; decompressor.row_bytes()];
    for row in image.chunks_exact_mut(inks.len() / 4 * 3) {
        decompressor.read(&mut inks)?;
        for (rgb, inks) in row.chunks_exact_mut(3).zip(inks.chunks_exact(4)) {
            for (to, &ink) in rgb.iter_mut().zip(inks) {
                *to = shade(ink, inks[3]);
            }
        }
    }
    Ok(())
}

/// The light that an ink and the black leave, both inverted, by the formula of Pillow: black − black × (255 − ink) / 255.
fn shade(ink: u8, black: u8) -> u8 {
    let product = u32::from(255 - ink) * u32::from(black) + 128;
    let taken = ((product >> 8) + product) >> 8;
    black.saturating_sub(taken as u8)
}

#[cfg(test)]
mod tests {
    use super::shade;

    /// Pillow's `cmyk2rgb`, with floating-point numbers.
    #[test]
    fn inks_take_their_share_of_the_light() {
        for ink in 0..=255u8 {
            for black in 0..=255u8 {
                let taken = (f64::from(255 - ink) * f64::from(black) / 255.0).round();
                assert_eq!(f64::from(shade(ink, black)), f64::from(black) - taken, "{ink} {black}");
            }
        }
    }
}
