//! The two passes of a resize, with vector instructions.
//!
//! Both add up weighted lines of [`LANES`] grey levels. In the pass along the rows, such a line has one column of a band of
//! rows, which is copied together for that. In the pass along the columns, it is a part of a row.

use image::RgbImage;
use rten_simd::{Isa, SimdOp};

use super::weights::{PLACES, Weights};

/// Rows of a band.
const ROWS: usize = 16;
/// Grey levels that are added up at a time: a band's column, with a fourth value for each pixel.
const LANES: usize = 4 * ROWS;
/// Grey levels in a vector of 512 bits, whose sums have 32.
const VECTOR: usize = 16;
/// Columns of a band that are copied together, in addition to those that one pixel is made of: few enough for the
/// fastest cache.
const COLUMNS: usize = 64;

/// What a sum begins with, so that it is rounded and not cut.
const HALF: i32 = 1 << (PLACES - 1);

type Line = [u8; LANES];
type Sums = [[i32; VECTOR]; LANES / VECTOR];

/// Adds `lines` to `sums`, each by its weight.
#[inline(always)]
fn add_weighted<'a>(lines: impl Iterator<Item = &'a Line>, weights: &[i32], sums: &mut Sums) {
    // Four variables stay in registers, where an array might not.
    let [mut a, mut b, mut c, mut d] = *sums;
    for (line, &weight) in lines.zip(weights) {
        let (parts, _) = line.as_chunks::<VECTOR>();
        for (sums, part) in [&mut a, &mut b, &mut c, &mut d].into_iter().zip(parts) {
            for (sum, &level) in sums.iter_mut().zip(part) {
                *sum += weight * i32::from(level);
            }
        }
    }
    *sums = [a, b, c, d];
}

fn level(sum: i32) -> u8 {
    (sum >> PLACES).clamp(0, 255) as u8
}

/// The pass along the rows.
pub(super) struct Across<'a> {
    levels: &'a [u8],
    width: usize,
    weights: Weights,
}

impl<'a> Across<'a> {
    pub fn new(source: &'a RgbImage, weights: Weights) -> Across<'a> {
        Across { levels: source.as_raw(), width: source.width() as usize, weights }
    }

    /// Grey levels of a resized row, rounded up to whole lines.
    pub fn stride(&self) -> usize {
        (3 * self.weights.len()).next_multiple_of(LANES)
    }

    /// Room for a band of resized rows.
    pub fn band(&self) -> Vec<u8> {
        vec![0; ROWS * self.stride()]
    }

    /// Resizes `count` rows from `first` on, at most [`ROWS`], into `band`.
    pub fn resize(&self, first: usize, count: usize, band: &mut [u8]) {
        let rows = &self.levels[3 * first * self.width..3 * (first + count) * self.width];
        let source = self.weights.source();
        let columns = Columns { rows, width: self.width, end: source.end, from: 0, lines: Vec::new() };
        AcrossBand { across: self, columns, count, band }.dispatch();
    }
}

/// Some columns of a band of source rows, each as a [`Line`]: four values for each row, of which three count.
struct Columns<'a> {
    rows: &'a [u8],
    width: usize,
    /// The last column that any pixel needs, and one.
    end: usize,
    /// The first column of `lines`.
    from: usize,
    lines: Vec<Line>,
}

impl Columns<'_> {
    /// The columns from `first` on, at least `count` of them. `first` never goes back.
    fn lines(&mut self, first: usize, count: usize) -> &[Line] {
        if first + count > self.from + self.lines.len() {
            self.advance(first, first + count);
        }
        &self.lines[first - self.from..]
    }

    // Not with the vector instructions of its caller: the compiler would gather and scatter.
    #[inline(never)]
    fn advance(&mut self, first: usize, end: usize) {
        let known = self.lines.len().saturating_sub(first - self.from);
        self.lines.drain(..self.lines.len() - known);
        self.from = first;
        let end = (end + COLUMNS).min(self.end);
        self.lines.resize(end - first, [0; LANES]);
        let from = 3 * (first + known);
        for (row, levels) in self.rows.chunks_exact(3 * self.width).enumerate() {
            for (line, pixel) in self.lines[known..].iter_mut().zip(levels[from..].as_chunks::<3>().0) {
                line[4 * row..4 * row + 3].copy_from_slice(pixel);
            }
        }
    }
}

struct AcrossBand<'a, 'b> {
    across: &'b Across<'a>,
    columns: Columns<'b>,
    count: usize,
    band: &'b mut [u8],
}

impl SimdOp for AcrossBand<'_, '_> {
    type Output = ();

    // Compiled with AVX-512, with AVX2 or without, and chosen when it runs.
    #[inline(always)]
    fn eval<I: Isa>(mut self, _: I) {
        let stride = self.across.stride();
        for pixel in 0..self.across.weights.len() {
            let (first, weights) = self.across.weights.of(pixel);
            let mut sums = [[HALF; VECTOR]; LANES / VECTOR];
            add_weighted(self.columns.lines(first, weights.len()).iter(), weights, &mut sums);
            let sums = sums.as_flattened().as_chunks::<4>().0;
            for (row, sums) in self.band.chunks_exact_mut(stride).zip(sums).take(self.count) {
                for (value, &sum) in row[3 * pixel..3 * pixel + 3].iter_mut().zip(sums) {
                    *value = level(sum);
                }
            }
        }
    }
}

/// The pass along the columns.
pub(super) struct Down<'a> {
    weights: Weights,
    stride: usize,
    /// For each row of the window, `stride` sums.
    sums: &'a mut Vec<i32>,
    /// The first row of the window that may need further source rows.
    pending: usize,
}

impl<'a> Down<'a> {
    /// For resized rows of `stride` grey levels, which is a multiple of [`LANES`].
    pub fn new(weights: Weights, stride: usize, sums: &'a mut Vec<i32>) -> Down<'a> {
        sums.clear();
        sums.resize(weights.len() * stride, HALF);
        Down { weights, stride, sums, pending: 0 }
    }

    /// The bands of source rows that are needed: the first row and the number of rows of each.
    pub fn bands(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let source = self.weights.source();
        source.clone().step_by(ROWS).map(move |first| (first, ROWS.min(source.end - first)))
    }

    /// Adds a band of resized rows to the rows of the window that need them. Each band follows the one before.
    pub fn add(&mut self, first: usize, count: usize, band: &[u8]) {
        DownBand { down: self, first, end: first + count, band }.dispatch();
    }

    /// Appends the window's pixels, `columns` of them for each row.
    pub fn finish(self, columns: usize, pixels: &mut Vec<[u8; 3]>) {
        for sums in self.sums.chunks_exact(self.stride) {
            pixels.extend(sums[..3 * columns].as_chunks::<3>().0.iter().map(|sums| sums.map(level)));
        }
    }
}

struct DownBand<'a, 'b> {
    down: &'b mut Down<'a>,
    first: usize,
    end: usize,
    band: &'b [u8],
}

impl SimdOp for DownBand<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        let Down { weights, stride, sums, pending } = self.down;
        for row in *pending..weights.len() {
            let (first, weights) = weights.of(row);
            if first >= self.end {
                break;
            }
            if first + weights.len() <= self.end {
                *pending = row + 1;
            }
            // The part of the row's source rows that this band has.
            let from = first.max(self.first);
            let weights = &weights[(from - first).min(weights.len())..];
            let band = &self.band[(from - self.first) * *stride..(self.end - self.first) * *stride];
            let sums = sums[row * *stride..(row + 1) * *stride].as_chunks_mut::<VECTOR>().0;
            for (part, sums) in sums.as_chunks_mut::<{ LANES / VECTOR }>().0.iter_mut().enumerate() {
                let lines = band.as_chunks::<LANES>().0[part..].iter().step_by(*stride / LANES);
                add_weighted(lines, weights, sums);
            }
        }
    }
}
