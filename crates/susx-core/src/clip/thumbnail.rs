//! Small copies of images, for people to look at.

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::error::{ClipError, Result};
use super::picture::Picture;
use super::preprocess::{PreprocessScratch, reduction};

/// Quality of JPEG files, from 1 to 100: at the size of a thumbnail, a higher quality is not visible.
const JPEG_QUALITY: u8 = 80;

/// The format of a thumbnail's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThumbnailFile {
    /// JPEG of quality 80.
    Jpeg,
    /// PNG.
    Png,
}

/// The file of a copy of `picture` whose longest side has at most `size` pixels, at least 1. A picture that is not larger
/// keeps its size. It may have been decoded at a part of its size, if [`thumbnail_reduction`] allows that.
///
/// Fails for a picture without pixels.
pub fn thumbnail(
    picture: &Picture,
    size: u32,
    file: ThumbnailFile,
    scratch: &mut PreprocessScratch,
) -> Result<Vec<u8>> {
    let (width, height) = picture.full_size();
    if width == 0 || height == 0 {
        return Err(ClipError::Image { format: None, reason: format!("it has {width} × {height} pixels") });
    }
    let (new_width, new_height) = fitted(width, height, size);
    if (new_width, new_height) == (width, height) {
        return encoded(picture.image().as_raw(), width, height, file);
    }
    let pixels = scratch.scaled(picture, new_width, new_height);
    encoded(pixels.as_flattened(), new_width, new_height, file)
}

/// The number by which the width and height of a picture may be divided while it is decoded for a thumbnail: 8, 4 or 2
/// if what is left has at least twice the pixels of the thumbnail on each side, else 1.
pub fn thumbnail_reduction(width: u32, height: u32, size: u32) -> u32 {
    match width.min(height) {
        0 => 1,
        _ => reduction((width, height), fitted(width, height, size)),
    }
}

/// Width and height of an image whose longest side has at most `size` pixels. No side is shorter than a pixel.
fn fitted(width: u32, height: u32, size: u32) -> (u32, u32) {
    let longest = width.max(height);
    if longest <= size {
        return (width, height);
    }
    let shrunk = |side: u32| {
        let rounded = (u64::from(side) * u64::from(size) + u64::from(longest) / 2) / u64::from(longest);
        u32::try_from(rounded).unwrap_or(size).max(1)
    };
    (shrunk(width), shrunk(height))
}

fn encoded(pixels: &[u8], width: u32, height: u32, file: ThumbnailFile) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let colour = ExtendedColorType::Rgb8;
    match file {
        ThumbnailFile::Jpeg => {
            JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).write_image(pixels, width, height, colour)
        }
        ThumbnailFile::Png => PngEncoder::new(&mut bytes).write_image(pixels, width, height, colour),
    }
    .map_err(ClipError::inference)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;

    #[test]
    fn the_longest_side_has_the_size() {
        assert_eq!(fitted(400, 300, 160), (160, 120));
        assert_eq!(fitted(300, 400, 160), (120, 160));
        assert_eq!(fitted(1000, 333, 100), (100, 33));
    }

    #[test]
    fn a_small_image_keeps_its_size() {
        assert_eq!(fitted(160, 90, 160), (160, 90));
        assert_eq!(fitted(1, 1, 16), (1, 1));
    }

    #[test]
    fn no_side_vanishes() {
        assert_eq!(fitted(60_000, 1, 160), (160, 1));
        assert_eq!(fitted(1, u32::MAX, 16), (1, 16));
    }

    #[test]
    fn files_decode_to_the_size_and_colour() {
        let picture = RgbImage::from_pixel(640, 320, image::Rgb([200, 30, 60])).into();
        for file in [ThumbnailFile::Jpeg, ThumbnailFile::Png] {
            let bytes = thumbnail(&picture, 64, file, &mut PreprocessScratch::default()).unwrap();
            let copy = super::super::decode_rgb(&bytes, &Default::default()).unwrap();
            assert_eq!(copy.dimensions(), (64, 32));
            for (&found, wanted) in copy.get_pixel(30, 15).0.iter().zip([200u8, 30, 60]) {
                assert!(found.abs_diff(wanted) <= 4, "{found} is not {wanted}");
            }
        }
    }
}
