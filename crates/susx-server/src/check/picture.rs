//! Pictures for the tests, drawn here.

use susx_core::clip::RgbImage;

const WIDTH: u32 = 320;
const HEIGHT: u32 = 240;

/// A picture that differs from its mirror image: stripes that become wider to the right, over a gradient of colours.
pub fn lopsided() -> RgbImage {
    RgbImage::from_fn(WIDTH, HEIGHT, |x, y| {
        let is_stripe = (x * x / 2000) % 2 == 0;
        let (across, down) = ((x * 255 / WIDTH) as u8, (y * 255 / HEIGHT) as u8);
        if is_stripe { [across, 40, 255 - across] } else { [255 - down, down, across] }.into()
    })
}

/// The picture as a mirror shows it.
pub fn mirrored(picture: &RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    RgbImage::from_fn(width, height, |x, y| *picture.get_pixel(width - 1 - x, y))
}

/// A square of a colour on white.
pub fn square(colour: [u8; 3]) -> RgbImage {
    const SIDE: u32 = 240;
    let is_inside = |at: u32| (SIDE / 4..SIDE * 3 / 4).contains(&at);
    RgbImage::from_fn(SIDE, SIDE, |x, y| if is_inside(x) && is_inside(y) { colour } else { [255; 3] }.into())
}
