//! Luma and chroma.

use super::directory::Directory;
use super::{broken, compression, tags};
use crate::clip::error::Result;

/// The conversion to RGB, as libtiff computes it.
pub(super) struct YCbCr {
    /// Weights of red, green and blue in the luma.
    luma: [f64; 3],
    /// The levels of black and white of the luma, and those of zero and the maximum of each chroma.
    black_white: [f64; 6],
}

const LUMA: [f64; 3] = [0.299, 0.587, 0.114];
const BLACK_WHITE: [f64; 6] = [0.0, 255.0, 128.0, 255.0, 128.0, 255.0];

impl YCbCr {
    pub(super) fn new(directory: &Directory, compression: u16) -> Result<YCbCr> {
        let mut ycbcr = YCbCr { luma: LUMA, black_white: BLACK_WHITE };
        // A JPEG's luma and chroma are those of JFIF.
        if compression == compression::JPEG {
            return Ok(ycbcr);
        }
        let read = |tag, values: &mut [f64]| {
            if let Some(found) = directory.values(tag) {
                for (index, value) in values.iter_mut().enumerate() {
                    *value = found.fraction(index).unwrap_or(*value);
                }
            }
        };
        read(tags::YCBCR_COEFFICIENTS, &mut ycbcr.luma);
        read(tags::REFERENCE_BLACK_WHITE, &mut ycbcr.black_white);
        let [.., green, _] = ycbcr.luma;
        let [y0, y1, cb0, cb1, cr0, cr1] = ycbcr.black_white;
        if green == 0.0 || y0 == y1 || cb0 == cb1 || cr0 == cr1 {
            return Err(broken("its YCbCr coefficients are invalid"));
        }
        Ok(ycbcr)
    }

    /// Whether the file has other weights or levels than JFIF, to a thousandth.
    pub(super) fn is_unusual(&self) -> bool {
        let differ = |(a, b): (&f64, &f64)| (a - b).abs() > 0.001 * b.abs().max(1.0);
        self.luma.iter().zip(&LUMA).any(differ) || self.black_white.iter().zip(&BLACK_WHITE).any(differ)
    }

    pub(super) fn rgb(&self, [y, cb, cr]: [u8; 3]) -> [u8; 3] {
        let [red, green, blue] = self.luma;
        let [y0, y1, cb0, cb1, cr0, cr1] = self.black_white;
        let y = (f64::from(y) - y0) * 255.0 / (y1 - y0);
        let cb = (f64::from(cb) - cb0) * 127.0 / (cb1 - cb0);
        let cr = (f64::from(cr) - cr0) * 127.0 / (cr1 - cr0);
        let (from_cr, from_cb) = (2.0 - 2.0 * red, 2.0 - 2.0 * blue);
        let g = y - red * from_cr / green * cr - blue * from_cb / green * cb;
        // The cast saturates.
        [y + from_cr * cr, g, y + from_cb * cb].map(|level| (level + 0.5) as u8)
    }
}

/// Interleaved pixels of subsampled ones, which lie in blocks: first the luma of `across` × `down` pixels, row by row,
/// then their chroma.
pub(super) fn expand(blocks: &[u8], width: usize, rows: usize, (across, down): (usize, usize)) -> Vec<u8> {
    let mut pixels = vec![0; 3 * width * rows];
    let size = across * down + 2;
    for (index, block) in blocks.chunks_exact(size).enumerate() {
        let (column, row) = (index % width.div_ceil(across), index / width.div_ceil(across));
        for (place, &luma) in block[..across * down].iter().enumerate() {
            let (x, y) = (column * across + place % across, row * down + place / across);
            if x < width && y < rows {
                let at = 3 * (y * width + x);
                pixels[at..at + 3].copy_from_slice(&[luma, block[size - 2], block[size - 1]]);
            }
        }
    }
    pixels
}
