//! Draws a contact sheet.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, Rgb, RgbImage};

use super::layout::Layout;
use super::text::{LETTER, lines, write};
use crate::clip::{ClipError, Result};

const PAPER: Rgb<u8> = Rgb([255; 3]);
/// Of a cell without a picture.
const GREY: Rgb<u8> = Rgb([208; 3]);
/// Height of a line of an error, in pixels.
const LINE: u64 = LETTER + 2;
/// Pixels between a picture and its label.
const ABOVE_LABEL: u64 = 3;

/// What a cell shows.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// A thumbnail, in the middle. What is larger than the cell is cut off.
    Image(&'a RgbImage),
    /// Why there is no thumbnail: as much of it as there is room for, on grey.
    Failed(&'a str),
    /// Nothing.
    Empty,
}

/// A sheet that is being drawn. It takes three bytes for each pixel.
#[derive(Debug)]
pub struct Sheet {
    layout: Layout,
    picture: RgbImage,
}

impl Sheet {
    /// An empty sheet. Fails if a side has more pixels than 32 bits can count.
    pub fn new(layout: Layout) -> Result<Self> {
        let side = |pixels: u64| u32::try_from(pixels).map_err(ClipError::inference);
        let picture = RgbImage::from_pixel(side(layout.width())?, side(layout.height())?, PAPER);
        Ok(Sheet { layout, picture })
    }

    /// Fills a cell, counted from 0, and writes the label below it. A label that is too long ends in an ellipsis.
    pub fn fill(&mut self, cell: usize, content: Content, label: Option<&str>) {
        let (left, top) = self.layout.place(cell);
        let size = self.layout.size();
        let width = (size / LETTER) as usize;
        match content {
            Content::Image(image) => self.place(image, left, top),
            Content::Failed(reason) => {
                self.paint(left, top, size);
                let margin = if size >= 4 * LETTER { LETTER / 2 } else { 0 };
                let room = size - 2 * margin;
                let shown = lines(reason, (room / LETTER) as usize, (room / LINE) as usize);
                for (line, number) in shown.iter().zip(0..) {
                    write(&mut self.picture, left + margin, top + margin + number * LINE, line);
                }
            }
            Content::Empty => {}
        }
        for line in lines(label.unwrap_or_default(), width, 1) {
            write(&mut self.picture, left, top + size + ABOVE_LABEL, &line);
        }
    }

    /// The sheet as a PNG file.
    pub fn png(self) -> Result<Vec<u8>> {
        let mut file = Vec::new();
        let (width, height) = self.picture.dimensions();
        PngEncoder::new(&mut file)
            .write_image(self.picture.as_raw(), width, height, ExtendedColorType::Rgb8)
            .map_err(ClipError::inference)?;
        Ok(file)
    }

    /// Copies an image into the middle of a cell.
    fn place(&mut self, image: &RgbImage, left: u64, top: u64) {
        let size = self.layout.size();
        let before = |side: u32| size.saturating_sub(u64::from(side)) / 2;
        let (dx, dy) = (left + before(image.width()), top + before(image.height()));
        for (x, y, &pixel) in image.enumerate_pixels() {
            if u64::from(x) < size && u64::from(y) < size {
                self.set(dx + u64::from(x), dy + u64::from(y), pixel);
            }
        }
    }

    fn paint(&mut self, left: u64, top: u64, size: u64) {
        for y in top..top + size {
            for x in left..left + size {
                self.set(x, y, GREY);
            }
        }
    }

    fn set(&mut self, x: u64, y: u64, colour: Rgb<u8>) {
        if let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y))
            && let Some(pixel) = self.picture.get_pixel_mut_checked(x, y)
        {
            *pixel = colour;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_has_its_content() {
        let mut sheet = Sheet::new(Layout::new(3, 2, 32, true)).unwrap();
        let red = RgbImage::from_pixel(32, 16, Rgb([250, 0, 0]));
        sheet.fill(0, Content::Image(&red), None);
        sheet.fill(1, Content::Failed("broken"), Some("label"));
        // Larger than the cell: nothing beside the cell changes.
        sheet.fill(2, Content::Image(&RgbImage::from_pixel(90, 90, Rgb([0, 0, 250]))), None);
        let at = |x, y| sheet.picture.get_pixel(x, y).0;
        assert_eq!(
            [at(8, 15), at(8, 16), at(39, 31), at(39, 32)],
            [[255; 3], [250, 0, 0], [250, 0, 0], [255; 3]]
        );
        assert_eq!([at(48, 8), at(79, 39), at(80, 39)], [[208; 3], [208; 3], [255; 3]]);
        assert_eq!(
            [at(8, 60), at(39, 91), at(40, 91), at(39, 92)],
            [[0, 0, 250], [0, 0, 250], [255; 3], [255; 3]]
        );
        let has_ink = |top, bottom| (top..bottom).any(|y| (48..80).any(|x| at(x, y) == [32; 3]));
        assert!(has_ink(8, 40) && has_ink(40, 52) && !has_ink(52, 60));
        assert!(sheet.png().unwrap().starts_with(b"\x89PNG"));
    }
}
