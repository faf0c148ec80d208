//! Conversion of any pixels to 8-bit RGB on white.

use image::{DynamicImage, ImageBuffer, Pixel, RgbImage};

/// Takes the upper 8 bits of 16, repeats grey as RGB, and lays transparent pixels on white.
pub(super) fn on_white(image: DynamicImage) -> RgbImage {
    match with_8_bits(image) {
        DynamicImage::ImageRgb8(image) => image,
        image if image.color().has_alpha() => {
            let image = image.into_rgba8();
            let (width, height) = image.dimensions();
            let mut rgb = RgbImage::new(width, height);
            for (to, from) in rgb.pixels_mut().zip(image.pixels()) {
                let [r, g, b, alpha] = from.0;
                to.0 = [r, g, b].map(|level| over_white(level, alpha));
            }
            rgb
        }
        image => image.into_rgb8(),
    }
}

/// Truncates 16-bit colours instead of rounding them, as does Pillow, which CLIP's own preprocessing uses.
fn with_8_bits(image: DynamicImage) -> DynamicImage {
    match image {
        DynamicImage::ImageLuma16(image) => DynamicImage::ImageLuma8(upper_half(&image)),
        DynamicImage::ImageLumaA16(image) => DynamicImage::ImageLumaA8(upper_half(&image)),
        DynamicImage::ImageRgb16(image) => DynamicImage::ImageRgb8(upper_half(&image)),
        DynamicImage::ImageRgba16(image) => DynamicImage::ImageRgba8(upper_half(&image)),
        image => image,
    }
}

/// The upper 8 bits of each sample. `From` and `To` must have the same number of channels.
fn upper_half<From, To>(image: &ImageBuffer<From, Vec<u16>>) -> ImageBuffer<To, Vec<u8>>
where
    From: Pixel<Subpixel = u16>,
    To: Pixel<Subpixel = u8>,
{
    ImageBuffer::from_fn(image.width(), image.height(), |x, y| {
        let samples = image.get_pixel(x, y).channels();
        let mut upper = [0; 4];
        for (upper, sample) in upper.iter_mut().zip(samples) {
            *upper = (sample >> 8) as u8;
        }
        *To::from_slice(&upper[..samples.len()])
    })
}

/// `level` of opacity `alpha` on white: `(level * alpha + 255 * (255 - alpha)) / 255`, rounded.
pub(super) fn over_white(level: u8, alpha: u8) -> u8 {
    let (level, alpha) = (u32::from(level), u32::from(alpha));
    // At most 255 * 255 / 255 = 255.
    ((level * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}
