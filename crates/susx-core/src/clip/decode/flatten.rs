//! Any pixels to 8-bit RGB on white.

use image::{DynamicImage, RgbImage};

/// Scales to 8 bits, repeats grey as RGB, and lays what is transparent on white.
pub(super) fn on_white(image: DynamicImage) -> RgbImage {
    match image {
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

/// `level` of opacity `alpha` on white: `(level * alpha + 255 * (255 - alpha)) / 255`, rounded.
pub(super) fn over_white(level: u8, alpha: u8) -> u8 {
    let (level, alpha) = (u32::from(level), u32::from(alpha));
    // At most 255 * 255 / 255 = 255.
    ((level * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}
