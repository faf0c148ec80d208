//! Cropping, turning and mirroring, in the order in which a file asks for it.

use image::metadata::Orientation;
#[cfg(feature = "avif")]
use image::{DynamicImage, RgbImage};

/// A part of an image: its size, and how far its centre lies to the right of and below the image's. Each is a fraction;
/// the numerators of the latter two are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::clip::decode) struct Crop {
    pub(super) width: (u32, u32),
    pub(super) height: (u32, u32),
    pub(super) right: (u32, u32),
    pub(super) down: (u32, u32),
}

/// A crop, followed by quarter turns clockwise, followed by an exchange of left and right. Any turns and exchanges can
/// be written like this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::clip::decode) struct Transforms {
    crop: Option<Crop>,
    turns: u8,
    is_mirrored: bool,
}

impl Transforms {
    pub(super) fn crop(&mut self, crop: Crop) {
        self.crop = Some(crop);
    }

    /// Adds quarter turns anticlockwise.
    pub(super) fn rotate(&mut self, anticlockwise: u8) {
        // A mirror turns the other way round.
        let clockwise = if self.is_mirrored { anticlockwise } else { 4 - anticlockwise % 4 };
        self.turns = (self.turns + clockwise) % 4;
    }

    /// Adds an exchange of left and right, or of top and bottom, which is the same upside down.
    pub(super) fn mirror(&mut self, is_sideways: bool) {
        self.is_mirrored = !self.is_mirrored;
        if !is_sideways {
            self.turns = (self.turns + 2) % 4;
        }
    }

    /// The turns and the exchange together.
    pub(in crate::clip::decode) fn orientation(&self) -> Orientation {
        match (self.turns, self.is_mirrored) {
            (1, false) => Orientation::Rotate90,
            (2, false) => Orientation::Rotate180,
            (3, false) => Orientation::Rotate270,
            (0, true) => Orientation::FlipHorizontal,
            (1, true) => Orientation::Rotate90FlipH,
            (2, true) => Orientation::FlipVertical,
            (3, true) => Orientation::Rotate270FlipH,
            _ => Orientation::NoTransforms,
        }
    }

    /// The part of the image that shows; all of it if the crop is not within the image.
    #[cfg(feature = "avif")]
    pub(in crate::clip::decode) fn cropped(&self, image: RgbImage) -> RgbImage {
        let (left, top, width, height) = self.part(image.dimensions());
        if (width, height) == image.dimensions() {
            return image;
        }
        DynamicImage::ImageRgb8(image).crop_imm(left, top, width, height).into_rgb8()
    }

    /// Width and height of that part.
    pub(in crate::clip::decode) fn cropped_size(&self, size: (u32, u32)) -> (u32, u32) {
        let (_, _, width, height) = self.part(size);
        (width, height)
    }

    /// Left, top, width and height of that part.
    fn part(&self, (width, height): (u32, u32)) -> (u32, u32, u32, u32) {
        let part = self.crop.and_then(|crop| {
            let (left, part_width) = range(width, crop.width, crop.right)?;
            let (top, part_height) = range(height, crop.height, crop.down)?;
            Some((left, top, part_width, part_height))
        });
        part.unwrap_or((0, 0, width, height))
    }
}

/// Start and length of a crop in one direction; `None` if it is not within the image.
fn range(whole: u32, (length, unit): (u32, u32), (shift, shift_unit): (u32, u32)) -> Option<(u32, u32)> {
    let length = length.checked_div(unit).filter(|length| (1..=whole).contains(length))?;
    let shift = f64::from(shift as i32) / f64::from(Some(shift_unit).filter(|unit| *unit > 0)?);
    let start = (f64::from(whole) - f64::from(length)) / 2.0 + shift;
    let start = (start + 0.5).floor();
    (start >= 0.0 && start + f64::from(length) <= f64::from(whole)).then_some((start as u32, length))
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, RgbImage};

    use super::*;

    /// Every sequence of three operations, one by one on an image and as one orientation.
    #[test]
    fn turns_and_mirrors_add_up() {
        let image = RgbImage::from_fn(3, 2, |x, y| image::Rgb([x as u8, y as u8, 0]));
        let operations = [(0, false), (1, false), (2, false), (3, false), (0, true), (1, true)];
        for first in operations {
            for second in operations {
                for third in operations {
                    let mut transforms = Transforms::default();
                    let mut expected = DynamicImage::ImageRgb8(image.clone());
                    for (number, is_mirror) in [first, second, third] {
                        if is_mirror {
                            transforms.mirror(number == 1);
                            expected = if number == 1 { expected.fliph() } else { expected.flipv() };
                        } else {
                            transforms.rotate(number);
                            for _ in 0..number {
                                expected = expected.rotate270();
                            }
                        }
                    }
                    let mut found = DynamicImage::ImageRgb8(image.clone());
                    found.apply_orientation(transforms.orientation());
                    assert_eq!(found, expected, "{first:?}, {second:?}, {third:?}");
                }
            }
        }
    }

    #[test]
    fn a_crop_is_around_the_centre() {
        assert_eq!(range(10, (4, 1), (0, 1)), Some((3, 4)));
        assert_eq!(range(10, (4, 1), (-3i32 as u32, 1)), Some((0, 4)));
        assert_eq!(range(10, (5, 1), (1, 2)), Some((3, 5)));
        assert_eq!(range(10, (4, 1), (4, 1)), None);
        assert_eq!(range(10, (11, 1), (0, 1)), None);
        assert_eq!(range(10, (4, 0), (0, 1)), None);
    }
}
