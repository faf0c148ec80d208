//! From the luma and chroma that AV1 stores to RGB.
//!
//! The formulas are those of ITU-T H.273. Chroma of a lower resolution is interpolated as libavif does it, and so
//! Pillow: bilinearly, as if each of its samples were in the middle of the pixels that share it.

use image::RgbImage;
use re_rav1d::dav1d::{Picture, PixelLayout, PlanarImageComponent as Component};

use super::heif::{Cicp, broken};
use crate::clip::error::Result;

/// One channel, of 8 bits.
#[derive(Debug)]
pub(super) struct Levels {
    width: u32,
    height: u32,
    levels: Vec<u8>,
}

impl Levels {
    pub(super) fn new(width: u32, height: u32) -> Self {
        Levels { width, height, levels: vec![0; width as usize * height as usize] }
    }

    pub(super) fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.levels
    }

    /// Copies the luma of a picture to a place, as far as there is room for it.
    pub(super) fn copy_luma(&mut self, picture: &Picture, x: u32, y: u32) -> Result<()> {
        let luma = Plane::of(picture, Component::Y);
        let scale = Scale::of(picture, is_full_range(picture));
        let columns = picture.width().min(self.width.saturating_sub(x));
        for row in 0..picture.height().min(self.height.saturating_sub(y)) {
            let from = (y + row) as usize * self.width as usize + x as usize;
            let to = &mut self.levels[from..from + columns as usize];
            for (column, level) in to.iter_mut().enumerate() {
                *level = to_8_bits(scale.luma(luma.sample(row as usize, column)));
            }
        }
        Ok(())
    }
}

/// The colours of a picture. `colours` is what the container says of them; otherwise the picture says it.
pub(super) fn rgb(picture: &Picture, colours: Option<Cicp>) -> Result<RgbImage> {
    let colours = colours.unwrap_or_else(|| Cicp {
        primaries: picture.color_primaries() as u16,
        matrix: picture.matrix_coefficients() as u16,
        is_full_range: is_full_range(picture),
    });
    let scale = Scale::of(picture, colours.is_full_range);
    let luma = Plane::of(picture, Component::Y);
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let mut image = RgbImage::new(picture.width(), picture.height());
    let rows = image.chunks_exact_mut(3 * width.max(1));
    if picture.pixel_layout() == PixelLayout::I400 {
        for (y, row) in rows.enumerate().take(height) {
            for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
                pixel.fill(to_8_bits(scale.luma(luma.sample(y, x))));
            }
        }
        return Ok(image);
    }
    let matrix = Matrix::of(colours, picture.pixel_layout())?;
    let (u, v) = (Chroma::of(picture, Component::U), Chroma::of(picture, Component::V));
    let (mut us, mut vs) = (vec![0.0; width], vec![0.0; width]);
    for (y, row) in rows.enumerate().take(height) {
        u.interpolate(y, &mut us);
        v.interpolate(y, &mut vs);
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let rgb = match matrix {
                Matrix::Identity => {
                    [vs[x], f32::from(luma.sample(y, x)), us[x]].map(|sample| scale.luma_of(sample))
                }
                Matrix::YCgCo => {
                    let (luma, cg, co) =
                        (scale.luma(luma.sample(y, x)), scale.chroma(us[x]), scale.chroma(vs[x]));
                    [luma - cg + co, luma + cg, luma - cg - co]
                }
                Matrix::YCbCr { red, blue } => {
                    let (luma, cb, cr) =
                        (scale.luma(luma.sample(y, x)), scale.chroma(us[x]), scale.chroma(vs[x]));
                    let (r, b) = (luma + 2.0 * (1.0 - red) * cr, luma + 2.0 * (1.0 - blue) * cb);
                    [r, (luma - red * r - blue * b) / (1.0 - red - blue), b]
                }
            };
            pixel.copy_from_slice(&rgb.map(to_8_bits));
        }
    }
    Ok(image)
}

/// From 0 to 1, rounded.
fn to_8_bits(level: f32) -> u8 {
    // The cast saturates.
    (level * 255.0 + 0.5) as u8
}

fn is_full_range(picture: &Picture) -> bool {
    use re_rav1d::dav1d::pixel::YUVRange;
    picture.color_range() == YUVRange::Full
}

/// What samples stand for.
struct Scale {
    /// Sample of black, and samples from there to white.
    black: f32,
    range: f32,
    /// Sample of no chroma, and samples from the least to the most.
    middle: f32,
    chroma_range: f32,
}

impl Scale {
    fn of(picture: &Picture, is_full_range: bool) -> Self {
        let unit = (1u32 << picture.bit_depth().saturating_sub(8)) as f32;
        match is_full_range {
            true => {
                let largest = 256.0 * unit - 1.0;
                Scale { black: 0.0, range: largest, middle: 128.0 * unit, chroma_range: largest }
            }
            false => Scale {
                black: 16.0 * unit,
                range: 219.0 * unit,
                middle: 128.0 * unit,
                chroma_range: 224.0 * unit,
            },
        }
    }

    fn luma(&self, sample: u16) -> f32 {
        self.luma_of(f32::from(sample))
    }

    fn luma_of(&self, sample: f32) -> f32 {
        (sample - self.black) / self.range
    }

    fn chroma(&self, sample: f32) -> f32 {
        (sample - self.middle) / self.chroma_range
    }
}

enum Matrix {
    /// The planes are green, blue and red.
    Identity,
    YCgCo,
    /// Weights of red and blue in luma.
    YCbCr {
        red: f32,
        blue: f32,
    },
}

impl Matrix {
    fn of(colours: Cicp, layout: PixelLayout) -> Result<Self> {
        let (red, blue) = match (colours.matrix, colours.primaries) {
            (0, _) if layout == PixelLayout::I444 => return Ok(Matrix::Identity),
            (8, _) => return Ok(Matrix::YCgCo),
            (1, _) | (12, 1) => (0.2126, 0.0722),
            // Unspecified: what everybody takes.
            (2 | 5 | 6, _) => (0.299, 0.114),
            (4, _) => (0.30, 0.11),
            (7, _) => (0.212, 0.087),
            (9, _) | (12, 9) => (0.2627, 0.0593),
            (matrix, _) => {
                let reason = format!("matrix coefficients {matrix} (ITU-T H.273) are not supported");
                return Err(broken("AVIF", reason));
            }
        };
        Ok(Matrix::YCbCr { red, blue })
    }
}

/// The samples of a plane, of one byte or two.
struct Plane {
    samples: re_rav1d::dav1d::Plane,
    stride: usize,
    is_wide: bool,
}

impl Plane {
    fn of(picture: &Picture, component: Component) -> Self {
        Plane {
            samples: picture.plane(component),
            stride: picture.stride(component) as usize,
            is_wide: picture.bit_depth() > 8,
        }
    }

    fn sample(&self, row: usize, column: usize) -> u16 {
        let start = row * self.stride;
        match self.is_wide {
            false => self.samples.get(start + column).copied().unwrap_or(0).into(),
            true => {
                let at = start + 2 * column;
                self.samples.get(at..at + 2).map_or(0, |bytes| u16::from_ne_bytes([bytes[0], bytes[1]]))
            }
        }
    }
}

/// A plane whose samples may be shared by two pixels in each direction.
struct Chroma {
    plane: Plane,
    width: usize,
    height: usize,
    is_half_as_wide: bool,
    is_half_as_high: bool,
}

impl Chroma {
    fn of(picture: &Picture, component: Component) -> Self {
        let (is_half_as_wide, is_half_as_high) = match picture.pixel_layout() {
            PixelLayout::I420 => (true, true),
            PixelLayout::I422 => (true, false),
            PixelLayout::I400 | PixelLayout::I444 => (false, false),
        };
        let halved =
            |length: u32, is_halved: bool| if is_halved { length.div_ceil(2) } else { length } as usize;
        Chroma {
            plane: Plane::of(picture, component),
            width: halved(picture.width(), is_half_as_wide),
            height: halved(picture.height(), is_half_as_high),
            is_half_as_wide,
            is_half_as_high,
        }
    }

    /// The samples of a row of pixels.
    fn interpolate(&self, row: usize, to: &mut [f32]) {
        let (near_row, far_row) = neighbours(row, self.height, self.is_half_as_high);
        let column_of = |column: usize| {
            let [near, far] = [near_row, far_row].map(|row| f32::from(self.plane.sample(row, column)));
            if near_row == far_row { near } else { 0.75 * near + 0.25 * far }
        };
        for (x, sample) in to.iter_mut().enumerate() {
            let (near, far) = neighbours(x, self.width, self.is_half_as_wide);
            *sample = match near == far {
                true => column_of(near),
                false => 0.75 * column_of(near) + 0.25 * column_of(far),
            };
        }
    }
}

/// The nearest and the second nearest of `count` samples to a pixel.
fn neighbours(pixel: usize, count: usize, is_halved: bool) -> (usize, usize) {
    if !is_halved {
        return (pixel, pixel);
    }
    let near = pixel / 2;
    let far = if pixel.is_multiple_of(2) {
        near.saturating_sub(1)
    } else {
        (near + 1).min(count.saturating_sub(1))
    };
    (near, far)
}
