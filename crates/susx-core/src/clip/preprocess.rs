//! From RGB pixels to the tensor that a CLIP image encoder takes: resize, crop, normalise.

use image::RgbImage;

use super::centre_crop::{Rounding, Window};
use super::error::{ClipError, Result};
use super::picture::{Area, Picture};
use super::preprocessor_config::{PreprocessorConfig, Resample, Resize};
use super::resize::{Axis, Resizer};

/// Turns images into `pixel_values`, according to a model's `preprocessor_config.json`.
///
/// It reproduces OpenAI's `clip.load(…)[1]`: Pillow's resize, to the bit, and torchvision's `CenterCrop`, `ToTensor` and
/// `Normalize`.
#[derive(Clone, Debug)]
pub struct Preprocessor {
    resize: Option<Resize>,
    resample: Resample,
    /// Height and width of the result, in pixels.
    size: (u32, u32),
    /// For each channel, the value of each grey level.
    levels: Box<[[f32; 256]; 3]>,
    rounding: Rounding,
    /// Colour of the padding of an image that is smaller than the result.
    fill: [u8; 3],
}

/// Buffers for [`Preprocessor::pixel_values_into`], which a caller reuses from image to image.
#[derive(Debug, Default)]
pub struct PreprocessScratch {
    resizer: Resizer,
}

impl Preprocessor {
    /// The preprocessing that a `preprocessor_config.json` describes. The error is a sentence.
    pub fn new(config: &PreprocessorConfig) -> Result<Preprocessor, String> {
        let mut levels = Box::new([[0.0; 256]; 3]);
        for (channel, levels) in levels.iter_mut().enumerate() {
            for (grey, level) in levels.iter_mut().enumerate() {
                *level = ((grey as f64 * config.rescale_factor - config.mean[channel]) / config.std[channel])
                    as f32;
            }
        }
        let (resize, size) = (config.resize, config.size()?);
        let (rounding, fill) = (config.rounding, config.fill);
        Ok(Preprocessor { resize, resample: config.resample, size, levels, rounding, fill })
    }

    /// The same, with other rules for the size and the crop.
    pub fn with_rounding(self, rounding: Rounding) -> Preprocessor {
        Preprocessor { rounding, ..self }
    }

    /// Shape of one result: 3 channels (red, green, blue), height, width.
    pub fn shape(&self) -> (usize, usize, usize) {
        (3, self.size.0 as usize, self.size.1 as usize)
    }

    /// Number of values in one result: 3 × height × width.
    pub fn len(&self) -> usize {
        3 * self.size.0 as usize * self.size.1 as usize
    }

    /// Always false: a result has at least one pixel.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes the tensor of `image` to `out`, channel by channel, row by row (CHW).
    ///
    /// `out` must have [`len`](Self::len) elements. `scratch` holds only buffers; reuse it for many images.
    ///
    /// Fails for an image without pixels, and for an `out` of another length.
    pub fn pixel_values_into(
        &self,
        image: &RgbImage,
        scratch: &mut PreprocessScratch,
        out: &mut [f32],
    ) -> Result<()> {
        let (width, height) = image.dimensions();
        self.values_into(image, (width, height), Area::all(width, height), scratch, out)
    }

    /// Like [`pixel_values_into`](Self::pixel_values_into), of a picture that may have been decoded at a part of its
    /// size.
    pub fn picture_values_into(
        &self,
        picture: &Picture,
        scratch: &mut PreprocessScratch,
        out: &mut [f32],
    ) -> Result<()> {
        self.values_into(picture.image(), picture.full_size(), picture.area(), scratch, out)
    }

    /// The number by which the width and height of a picture may be divided while it is decoded: 8, 4 or 2 if what is
    /// left has at least twice the pixels of the resized image on each side, else 1.
    pub fn reduction(&self, width: u32, height: u32) -> u32 {
        match width.min(height) {
            0 => 1,
            _ => reduction((width, height), self.resized(width, height)),
        }
    }

    /// Writes the tensor of the `area` of `image`, which shows a picture of the size `full_size`.
    fn values_into(
        &self,
        image: &RgbImage,
        full_size: (u32, u32),
        area: Area,
        scratch: &mut PreprocessScratch,
        out: &mut [f32],
    ) -> Result<()> {
        let (width, height) = image.dimensions();
        if width == 0 || height == 0 {
            return Err(ClipError::Image {
                format: None,
                reason: format!("it has {width} × {height} pixels"),
            });
        }
        if out.len() != self.len() {
            return Err(ClipError::inference(format!(
                "the buffer has {} values, expected {}",
                out.len(),
                self.len()
            )));
        }
        let (resized_width, resized_height) = self.resized(full_size.0, full_size.1);
        let window = |side, crop| match self.resize {
            Some(Resize::Within { .. }) => Window::centre_or_pad(side, crop),
            _ => Window::centre(side, crop, self.rounding),
        };
        let rows = window(resized_height, self.size.0);
        let columns = window(resized_width, self.size.1);
        if (resized_width, resized_height) == (width, height) {
            let (pixels, _) = image.as_chunks::<3>();
            self.normalise(pixels, width, rows, columns, out);
            return Ok(());
        }
        let pixels = scratch.resizer.resize(
            image,
            self.resample,
            Axis { start: area.left, length: area.width, resized: resized_width, window: columns },
            Axis { start: area.top, length: area.height, resized: resized_height, window: rows },
        );
        self.normalise(pixels, columns.len, Window { from: 0, ..rows }, Window { from: 0, ..columns }, out);
        Ok(())
    }

    /// Width and height after the resize. The long side is rounded down, as by `int(size * long / short)` of torchvision
    /// and `transformers`, and by `int(long / short * size)` of Immich.
    fn resized(&self, width: u32, height: u32) -> (u32, u32) {
        match self.resize {
            None => (width, height),
            Some(Resize::Exact { height, width }) => (width, height),
            Some(Resize::ShortestEdge(side)) => {
                let (short, long) = (width.min(height), width.max(height));
                let long = match self.rounding {
                    Rounding::Immich => (f64::from(long) / f64::from(short) * f64::from(side)) as u32,
                    Rounding::Torchvision | Rounding::Transformers => {
                        let long = u64::from(side) * u64::from(long) / u64::from(short);
                        u32::try_from(long).unwrap_or(u32::MAX)
                    }
                };
                if width <= height { (side, long) } else { (long, side) }
            }
            // As `ResizeKeepRatio` of open_clip: Python's round() of side / ratio.
            Some(Resize::Within { height: rows, width: columns }) => {
                let ratio = (f64::from(height) / f64::from(rows)).max(f64::from(width) / f64::from(columns));
                let side = |side: u32| ((f64::from(side) / ratio).round_ties_even() as u32).max(1);
                (side(width), side(height))
            }
        }
    }

    /// Crops and normalises `pixels`, an image of `width` columns.
    fn normalise(&self, pixels: &[[u8; 3]], width: u32, rows: Window, columns: Window, out: &mut [f32]) {
        let (height, out_width) = (self.size.0 as usize, self.size.1 as usize);
        let padded = (rows.len, columns.len) != self.size;
        for ((plane, levels), channel) in
            out.chunks_exact_mut(height * out_width).zip(self.levels.iter()).zip(0..)
        {
            if padded {
                // The padding is normalised like the image.
                let grey: u8 = self.fill[channel];
                plane.fill(levels[usize::from(grey)]);
            }
            for row in 0..rows.len as usize {
                let from = (rows.from as usize + row) * width as usize + columns.from as usize;
                let to = (rows.to as usize + row) * out_width + columns.to as usize;
                let len = columns.len as usize;
                for (value, pixel) in plane[to..to + len].iter_mut().zip(&pixels[from..from + len]) {
                    let grey: u8 = pixel[channel];
                    *value = levels[usize::from(grey)];
                }
            }
        }
    }
}

impl PreprocessScratch {
    /// The pixels of a picture of `width` × `height` after a resize by Pillow's Lanczos filter, row by row. No side may
    /// be 0.
    pub(super) fn scaled(&mut self, picture: &Picture, width: u32, height: u32) -> &[[u8; 3]] {
        let area = picture.area();
        let whole = |start, length, side| {
            let window = Window { from: 0, to: 0, len: side };
            Axis { start, length, resized: side, window }
        };
        let (columns, rows) = (whole(area.left, area.width, width), whole(area.top, area.height, height));
        self.resizer.resize(picture.image(), Resample::Lanczos, columns, rows)
    }
}

/// The number by which a size may be divided and keep at least twice the pixels of `resized` on each side: 8, 4, 2 or 1.
pub(super) fn reduction(size: (u32, u32), resized: (u32, u32)) -> u32 {
    let leaves_enough = |divisor: u32| {
        let enough = |side: u32, resized: u32| u64::from(side / divisor) >= 2 * u64::from(resized);
        enough(size.0, resized.0) && enough(size.1, resized.1)
    };
    [8, 4, 2].into_iter().find(|&divisor| leaves_enough(divisor)).unwrap_or(1)
}
