//! Pillow's `Image.resize` of RGB images, to the bit.
//!
//! Image encoders were trained on pictures that Pillow resized, so susx computes the same levels. Pillow weighs pixels
//! in fixed point, first along the rows and then along the columns, and rounds to grey levels after both. Pillow 13
//! begins with the columns where an image loses more than twice as many rows as columns, which changes some grey
//! levels; susx keeps to the older order for every image, because the models of today were trained with it.
//!
//! Only a window of the result is computed. A strip of 1 × 60,000 pixels would otherwise grow to gigabytes.

mod filter;
mod nearest;
mod passes;
mod weights;

use image::RgbImage;

use super::centre_crop::Window;
use super::preprocessor_config::Resample;
use passes::{Across, Down};
use weights::Weights;

/// One axis of a resize.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    /// Where the resized part of the source begins, in pixels and their fractions.
    pub start: f64,
    /// The length of that part.
    pub length: f64,
    /// The length of the whole result, in pixels.
    pub resized: u32,
    /// The part of the result to compute.
    pub window: Window,
}

impl Axis {
    /// Source pixels for each pixel of the result.
    fn scale(&self) -> f64 {
        self.length / f64::from(self.resized)
    }
}

/// Resizes images, and keeps its buffers for the next one.
#[derive(Debug, Default)]
pub(super) struct Resizer {
    /// The sums of weighted grey levels, for each value of the result.
    sums: Vec<i32>,
    /// The result, row by row.
    pixels: Vec<[u8; 3]>,
}

impl Resizer {
    /// The window of `source` after a resize to the length that each axis names. Neither `source` nor a window is empty.
    pub fn resize(&mut self, source: &RgbImage, filter: Resample, columns: Axis, rows: Axis) -> &[[u8; 3]] {
        let (width, height) = source.dimensions();
        self.pixels.clear();
        if filter == Resample::Nearest {
            let columns = nearest::places(columns, width);
            for row in nearest::places(rows, height) {
                self.pixels.extend(columns.iter().map(|&column| source.get_pixel(column, row).0));
            }
            return &self.pixels;
        }
        let across = Across::new(source, Weights::new(filter, columns, width));
        let mut down = Down::new(Weights::new(filter, rows, height), across.stride(), &mut self.sums);
        let mut band = across.band();
        for (first, count) in down.bands() {
            across.resize(first, count, &mut band);
            down.add(first, count, &band);
        }
        down.finish(columns.window.len as usize, &mut self.pixels);
        &self.pixels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of images with more rows and columns than a band has, and with fewer.
    #[test]
    fn a_window_is_a_part_of_the_whole() {
        let mut state = 1u32;
        let mut random = |limit: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % limit
        };
        let mut resizer = Resizer::default();
        for (width, height) in [(150, 97), (9, 140), (131, 5), (1, 33), (70, 1)] {
            let image = RgbImage::from_fn(width, height, |_, _| image::Rgb([random(256) as u8; 3]));
            for filter in [Resample::Nearest, Resample::Lanczos, Resample::Bilinear, Resample::Bicubic] {
                let (to_width, to_height) = (1 + random(90), 1 + random(90));
                let axis = |side: u32, resized, from, len| {
                    let window = Window { from, to: 0, len };
                    Axis { start: 0.0, length: f64::from(side), resized, window }
                };
                let columns = axis(width, to_width, 0, to_width);
                let rows = axis(height, to_height, 0, to_height);
                let whole = resizer.resize(&image, filter, columns, rows).to_vec();
                let (left, top) = (random(to_width), random(to_height));
                let (wide, high) = (1 + random(to_width - left), 1 + random(to_height - top));
                let columns = axis(width, to_width, left, wide);
                let rows = axis(height, to_height, top, high);
                let part = resizer.resize(&image, filter, columns, rows);
                for (row, part) in part.chunks_exact(wide as usize).enumerate() {
                    let from = (top as usize + row) * to_width as usize + left as usize;
                    assert_eq!(part, &whole[from..from + wide as usize], "{filter:?} {width} × {height}");
                }
            }
        }
    }
}
