//! A decoded picture, which may be smaller than its file says.

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

/// An upright picture: its pixels, perhaps of a half, a quarter or an eighth of its size, and the size that it has.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    image: RgbImage,
    full_size: (u32, u32),
    area: Area,
}

/// A rectangle of an image, in pixels and their fractions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Area {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

impl Area {
    /// All of an image of this size.
    pub(crate) fn all(width: u32, height: u32) -> Area {
        Area { left: 0.0, top: 0.0, width: width.into(), height: height.into() }
    }
}

impl From<RgbImage> for Picture {
    /// A picture of the image's size.
    fn from(image: RgbImage) -> Picture {
        let (width, height) = image.dimensions();
        Picture { image, full_size: (width, height), area: Area::all(width, height) }
    }
}

impl Picture {
    /// The upright picture of `image`, which has 1/`divisor` of the width and height `full_size`, both rounded up.
    pub(crate) fn reduced(
        image: RgbImage,
        orientation: Orientation,
        full_size: (u32, u32),
        divisor: u32,
    ) -> Picture {
        let exact = |side: u32| f64::from(side) / f64::from(divisor);
        let (mut width, mut height) = (exact(full_size.0), exact(full_size.1));
        let mut full_size = full_size;
        let mut image = DynamicImage::ImageRgb8(image);
        image.apply_orientation(orientation);
        let image = image.into_rgb8();
        // The last column and row may stand for less than the others. Turning can make them the first ones.
        let (is_turned, starts_left, starts_top) = match orientation {
            Orientation::NoTransforms => (false, true, true),
            Orientation::FlipHorizontal => (false, false, true),
            Orientation::Rotate180 => (false, false, false),
            Orientation::FlipVertical => (false, true, false),
            Orientation::Rotate90FlipH => (true, true, true),
            Orientation::Rotate90 => (true, false, true),
            Orientation::Rotate270FlipH => (true, false, false),
            Orientation::Rotate270 => (true, true, false),
        };
        if is_turned {
            (width, height) = (height, width);
            full_size = (full_size.1, full_size.0);
        }
        let left = if starts_left { 0.0 } else { f64::from(image.width()) - width };
        let top = if starts_top { 0.0 } else { f64::from(image.height()) - height };
        Picture { image, full_size, area: Area { left, top, width, height } }
    }

    /// The pixels that were decoded.
    pub fn image(&self) -> &RgbImage {
        &self.image
    }

    /// The pixels that were decoded.
    pub fn into_image(self) -> RgbImage {
        self.image
    }

    /// Width and height of the picture in its file, upright, in pixels.
    pub fn full_size(&self) -> (u32, u32) {
        self.full_size
    }

    /// The part of [`image`](Self::image) that the picture covers.
    pub(crate) fn area(&self) -> Area {
        self.area
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of 13 × 6 pixels at half its size: the last column stands for half as much as the others.
    #[test]
    fn the_narrow_column_turns_with_the_picture() {
        for (number, left, top) in [
            (1, 0.0, 0.0),
            (2, 0.5, 0.0),
            (3, 0.5, 0.0),
            (4, 0.0, 0.0),
            (5, 0.0, 0.0),
            (6, 0.0, 0.0),
            (7, 0.0, 0.5),
            (8, 0.0, 0.5),
        ] {
            let orientation = Orientation::from_exif(number).unwrap();
            // The narrow column is marked.
            let image = RgbImage::from_fn(7, 3, |x, _| image::Rgb([if x == 6 { 200 } else { 0 }; 3]));
            let picture = Picture::reduced(image, orientation, (13, 6), 2);
            let is_turned = number > 4;
            assert_eq!(picture.full_size(), if is_turned { (6, 13) } else { (13, 6) });
            let area = if is_turned { (3.0, 6.5) } else { (6.5, 3.0) };
            assert_eq!((picture.area().width, picture.area().height), area);
            assert_eq!((picture.area().left, picture.area().top), (left, top), "{number}");
            let is_first = (left, top) != (0.0, 0.0);
            let last = (picture.image().width() - 1, picture.image().height() - 1);
            assert_eq!(picture.image().get_pixel(0, 0).0[0] == 200, is_first, "{number}");
            assert_eq!(picture.image().get_pixel(last.0, last.1).0[0] == 200, !is_first, "{number}");
        }
    }
}
