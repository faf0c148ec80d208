//! Matrix products of queries, in which every row is computed by itself.
//!
//! A query gets the same result, to the last bit, alone and among thousands: so a label does not depend on how many rows a
//! statement has. `gemm` does not promise that. Its kernels add up the terms of a single row in another order than those
//! of several rows. Here each element of the result has an accumulator of its own, whose additions come in an order that
//! depends only on the length of the vectors; the tiles below only share what they load.
//!
//! For few rows this is faster than `gemm`, which first copies its second matrix. For many rows of CLIP's length it is
//! nearly as fast.

use std::array;

use ndarray::{Array1, Array2, ArrayView2, ShapeError, s};
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

use super::PIECE;
use crate::interrupt;

/// Elements of the rows of `a` that stay in the processor's cache while those of `b` pass by: 256 KiB.
const CACHED: usize = 1 << 16;

/// Elements of a cache line.
const LINE: usize = 64 / size_of::<f32>();

/// The same matrix, row by row from the beginning of a cache line on. Where vectors have the length of several lines, as
/// those of CLIP do, no load then touches two of them, which makes products nearly half as fast again.
pub(crate) fn aligned(matrix: ArrayView2<f32>) -> Array2<f32> {
    let mut elements: Vec<f32> = Vec::with_capacity(matrix.len() + LINE);
    match matrix.as_slice() {
        Some(slice) => elements.extend_from_slice(slice),
        None => elements.extend(matrix.iter()),
    }
    aligned_rows(elements, matrix.dim()).unwrap_or_else(|_| matrix.to_owned())
}

/// The matrix of this shape, aligned like [`aligned`]. Needs no memory for a copy.
pub(crate) fn aligned_rows(mut elements: Vec<f32>, shape: (usize, usize)) -> Result<Array2<f32>, ShapeError> {
    let length = elements.len();
    elements.reserve_exact(LINE);
    let start = elements.as_ptr().align_offset(64).min(LINE);
    elements.resize(length + start, 0.0);
    elements.copy_within(..length, start);
    Array1::from_vec(elements).slice_move(s![start..]).into_shape_with_order(shape)
}

/// `a b^T`, n × m, of `a` (n × d) and `b` (m × d). Each row of the result depends on its own row of `a` alone.
pub(crate) fn row_product(a: ArrayView2<f32>, b: ArrayView2<f32>) -> Array2<f32> {
    let mut out = Array2::zeros((a.nrows(), b.nrows()));
    if let Some(out) = out.as_slice_mut() {
        row_product_into(a, b, out);
    }
    out
}

/// Like [`row_product`], into `out`, which has n m elements, row by row. Panics if the shapes do not match.
pub(crate) fn row_product_into(a: ArrayView2<f32>, b: ArrayView2<f32>, out: &mut [f32]) {
    let ((rows, length), columns) = (a.dim(), b.nrows());
    assert_eq!(b.ncols(), length, "rows of different lengths");
    assert_eq!(out.len(), rows * columns, "an output of another shape");
    let (a, b) = (a.as_standard_layout(), b.as_standard_layout());
    let (Some(a), Some(b)) = (a.as_slice(), b.as_slice()) else { return };
    if a.is_empty() || b.is_empty() {
        return out.fill(0.0);
    }
    let together = (CACHED / length).clamp(1, rows);
    let wide = (PIECE / (together * length)).max(1);
    for (a, out) in a.chunks(together * length).zip(out.chunks_mut(together * columns)) {
        for (piece, b) in b.chunks(wide * length).enumerate() {
            interrupt::check();
            Products { a, b, length, out, columns, first: piece * wide }.dispatch();
        }
    }
}

/// `p rows`, n × m, of `p` (n × k) and `rows` (k × m): the sums of the rows, weighted by each row of `p`. Each row of the
/// result depends on its own row of `p` alone.
pub(crate) fn row_sums(p: ArrayView2<f32>, rows: ArrayView2<f32>) -> Array2<f32> {
    let ((queries, terms), columns) = (p.dim(), rows.ncols());
    assert_eq!(rows.nrows(), terms, "another number of weights than rows");
    let mut out = Array2::zeros((queries, columns));
    let (p, rows) = (p.as_standard_layout(), rows.as_standard_layout());
    let (Some(p), Some(rows), Some(all)) = (p.as_slice(), rows.as_slice(), out.as_slice_mut()) else {
        return out;
    };
    if terms == 0 || columns == 0 {
        return out;
    }
    let together = (PIECE / (terms * columns)).max(1);
    for (p, out) in p.chunks(together * terms).zip(all.chunks_mut(together * columns)) {
        interrupt::check();
        Sums { p, rows, terms, columns, out }.dispatch();
    }
    out
}

/// Some rows of `a` times some of `b`, which are the columns of the output from `first` on.
struct Products<'a> {
    a: &'a [f32],
    b: &'a [f32],
    length: usize,
    out: &'a mut [f32],
    /// The length of a row of `out`.
    columns: usize,
    first: usize,
}

impl SimdOp for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        // As many accumulators as there are registers: sixteen with AVX2, twice as many with AVX-512 and NEON.
        match isa.f32().len() {
            8 => self.tiled::<I, 3, 4>(isa),
            _ => self.tiled::<I, 4, 6>(isa),
        }
    }
}

impl Products<'_> {
    #[inline(always)]
    fn tiled<I: Isa, const ROWS: usize, const COLUMNS: usize>(mut self, isa: I) {
        let (rows, columns) = (self.a.len() / self.length, self.b.len() / self.length);
        let mut column = 0;
        while column < columns {
            let is_full = columns - column >= COLUMNS;
            let mut row = 0;
            while row < rows {
                match (is_full, rows - row >= ROWS) {
                    (true, true) => self.tile::<I, ROWS, COLUMNS>(isa, row, column),
                    (true, false) => self.tile::<I, 1, COLUMNS>(isa, row, column),
                    (false, true) => self.tile::<I, ROWS, 1>(isa, row, column),
                    (false, false) => self.tile::<I, 1, 1>(isa, row, column),
                }
                row += if rows - row >= ROWS { ROWS } else { 1 };
            }
            column += if is_full { COLUMNS } else { 1 };
        }
    }

    #[inline(always)]
    fn tile<I: Isa, const ROWS: usize, const COLUMNS: usize>(&mut self, isa: I, row: usize, column: usize) {
        let ops = isa.f32();
        let (lanes, length) = (ops.len(), self.length);
        let a: [&[f32]; ROWS] = array::from_fn(|i| &self.a[(row + i) * length..(row + i + 1) * length]);
        let b: [&[f32]; COLUMNS] =
            array::from_fn(|j| &self.b[(column + j) * length..(column + j + 1) * length]);
        let mut sums = [[ops.zero(); COLUMNS]; ROWS];
        // No closure may contain vector instructions: compiled for any processor, it would not be inlined.
        let mut x = [ops.zero(); ROWS];
        let whole = length - length % lanes;
        for k in (0..whole).step_by(lanes) {
            for (x, a) in x.iter_mut().zip(a) {
                *x = ops.load(&a[k..k + lanes]);
            }
            for (j, b) in b.into_iter().enumerate() {
                let y = ops.load(&b[k..k + lanes]);
                for (sums, x) in sums.iter_mut().zip(x) {
                    sums[j] = ops.mul_add(x, y, sums[j]);
                }
            }
        }
        if whole < length {
            for (x, a) in x.iter_mut().zip(a) {
                *x = ops.load_pad(&a[whole..]).0;
            }
            for (j, b) in b.into_iter().enumerate() {
                let y = ops.load_pad(&b[whole..]).0;
                for (sums, x) in sums.iter_mut().zip(x) {
                    sums[j] = ops.mul_add(x, y, sums[j]);
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            let start = (row + i) * self.columns + self.first + column;
            for (out, sum) in self.out[start..start + COLUMNS].iter_mut().zip(sums) {
                *out = ops.sum(sum);
            }
        }
    }
}

/// Some weighted sums of all rows.
struct Sums<'a> {
    p: &'a [f32],
    rows: &'a [f32],
    terms: usize,
    columns: usize,
    out: &'a mut [f32],
}

impl SimdOp for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        match isa.f32().len() {
            8 => self.tiled::<I, 3, 4>(isa),
            _ => self.tiled::<I, 6, 4>(isa),
        }
    }
}

impl Sums<'_> {
    #[inline(always)]
    fn tiled<I: Isa, const QUERIES: usize, const VECTORS: usize>(mut self, isa: I) {
        let lanes = isa.f32().len();
        let queries = self.p.len() / self.terms;
        let mut column = 0;
        while column < self.columns {
            let is_full = self.columns - column >= VECTORS * lanes;
            let mut query = 0;
            while query < queries {
                match (is_full, queries - query >= QUERIES) {
                    (true, true) => self.tile::<I, QUERIES, VECTORS>(isa, query, column),
                    (true, false) => self.tile::<I, 1, VECTORS>(isa, query, column),
                    (false, true) => self.tile::<I, QUERIES, 1>(isa, query, column),
                    (false, false) => self.tile::<I, 1, 1>(isa, query, column),
                }
                query += if queries - query >= QUERIES { QUERIES } else { 1 };
            }
            column += if is_full { VECTORS * lanes } else { lanes };
        }
    }

    #[inline(always)]
    fn tile<I: Isa, const QUERIES: usize, const VECTORS: usize>(
        &mut self,
        isa: I,
        query: usize,
        column: usize,
    ) {
        let ops = isa.f32();
        let (lanes, terms, columns) = (ops.len(), self.terms, self.columns);
        let p: [&[f32]; QUERIES] = array::from_fn(|i| &self.p[(query + i) * terms..(query + i + 1) * terms]);
        let width = (VECTORS * lanes).min(columns - column);
        let mut sums = [[ops.zero(); VECTORS]; QUERIES];
        let mut y = [ops.zero(); VECTORS];
        for k in 0..terms {
            let row = &self.rows[k * columns + column..k * columns + column + width];
            if width == VECTORS * lanes {
                for (j, y) in y.iter_mut().enumerate() {
                    *y = ops.load(&row[j * lanes..(j + 1) * lanes]);
                }
            } else {
                // There is a single vector.
                y = [ops.load_pad(row).0; VECTORS];
            }
            for (sums, p) in sums.iter_mut().zip(p) {
                let x = ops.splat(p[k]);
                for (sum, y) in sums.iter_mut().zip(y) {
                    *sum = ops.mul_add(x, y, *sum);
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            let start = (query + i) * columns + column;
            let out = &mut self.out[start..start + width];
            for (sum, out) in sums.into_iter().zip(out.chunks_mut(lanes)) {
                match out.len() == lanes {
                    true => ops.store(sum, out),
                    false => {
                        for (out, &value) in out.iter_mut().zip(rten_simd::Simd::to_array(sum).as_ref()) {
                            *out = value;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::product;

    fn matrix(rows: usize, columns: usize) -> Array2<f32> {
        Array2::from_shape_fn((rows, columns), |(i, j)| ((i * 31 + j * 17 + i * j) % 23) as f32 / 23.0 - 0.4)
    }

    /// Around every size of a tile and of a vector.
    const SHAPES: [(usize, usize, usize); 10] = [
        (1, 1, 1),
        (1, 37, 19),
        (5, 3, 64),
        (7, 13, 33),
        (33, 70, 7),
        (23, 65, 9),
        (130, 31, 600),
        (0, 4, 3),
        (4, 0, 3),
        (2, 2, 0),
    ];

    #[test]
    fn a_product_is_that_of_gemm() {
        for (n, m, d) in SHAPES {
            let (a, b) = (matrix(n, d), matrix(m, d));
            let expected = product(a.view(), b.view());
            let near = |found: Array2<f32>| (found - &expected).iter().all(|x| x.abs() < 1e-3);
            assert!(near(row_product(a.view(), b.view())), "{n} {m} {d}");
            assert!(near(row_sums(a.view(), b.t())), "{n} {m} {d}");
            // Of other layouts, too.
            let (a, b) = (a.t().to_owned(), b.t().to_owned());
            assert!(near(row_product(a.t(), b.t())), "{n} {m} {d}");
            assert!(near(row_sums(a.t(), b.view())), "{n} {m} {d}");
        }
    }

    #[test]
    fn a_row_is_the_same_alone_and_among_others() {
        for (n, m, d) in SHAPES {
            let (a, b) = (matrix(n, d), matrix(m, d));
            let (products, sums) = (row_product(a.view(), b.view()), row_sums(a.view(), b.t()));
            for together in [1, 2, 3, 4, 6, 7] {
                for start in (0..n).step_by(together) {
                    let rows = s![start..(start + together).min(n), ..];
                    assert_eq!(row_product(a.slice(rows), b.view()), products.slice(rows));
                    assert_eq!(row_sums(a.slice(rows), b.t()), sums.slice(rows));
                }
            }
        }
    }

    /// The products and sums of whole matrices with other instructions than this processor's best.
    fn with<I: Isa>(isa: I, a: &Array2<f32>, b: &Array2<f32>) -> [Vec<f32>; 2] {
        let ((rows, length), columns) = (a.dim(), b.nrows());
        let transposed = b.t().as_standard_layout().into_owned();
        let slice = |matrix: &Array2<f32>| matrix.as_slice().map_or(Vec::new(), <[f32]>::to_vec);
        let (a, b, transposed) = (slice(a), slice(b), slice(&transposed));
        let (mut products, mut sums) = (vec![0.0; rows * columns], vec![0.0; rows * columns]);
        Products { a: &a, b: &b, length, out: &mut products, columns, first: 0 }.eval(isa);
        Sums { p: &a, rows: &transposed, terms: length, columns, out: &mut sums }.eval(isa);
        [products, sums]
    }

    #[test]
    fn every_processor_gets_its_tiles() {
        for (n, m, d) in SHAPES.into_iter().filter(|&(n, m, d)| n * m * d > 0) {
            let (a, b) = (matrix(n, d), matrix(m, d));
            let check = |of_all: [Vec<f32>; 2], of_last: [Vec<f32>; 2]| {
                let expected = row_product(a.view(), b.view());
                for (found, alone) in of_all.iter().zip(of_last) {
                    assert!(found.iter().zip(&expected).all(|(x, y)| (x - y).abs() < 1e-3), "{n} {m} {d}");
                    assert_eq!(found[(n - 1) * m..], alone);
                }
            };
            let last = a.slice(s![n - 1.., ..]).to_owned();
            let plain = rten_simd::isa::GenericIsa::new();
            check(with(plain, &a, &b), with(plain, &last, &b));
            #[cfg(target_arch = "x86_64")]
            if let Some(avx2) = rten_simd::isa::Avx2Isa::new() {
                check(with(avx2, &a, &b), with(avx2, &last, &b));
            }
        }
    }

    #[test]
    fn an_aligned_matrix_is_the_same() {
        for (n, _, d) in SHAPES {
            let matrix = matrix(n, d);
            for view in [matrix.view(), matrix.slice(s![n / 2.., ..]), matrix.t()] {
                let found = aligned(view);
                assert_eq!(found, view);
                assert!(found.is_empty() || found.as_ptr().align_offset(64) == 0);
                assert!(found.is_standard_layout());
            }
        }
    }

    /// With pieces of both matrices.
    #[test]
    fn a_large_product() {
        let (n, m, d) = (70, 5000, 2100);
        let (a, b) = (matrix(n, d), matrix(m, d));
        let expected = product(a.view(), b.view());
        let found = row_product(a.view(), b.view());
        assert!(found.iter().zip(&expected).all(|(x, y)| (x - y).abs() < 1e-3 * y.abs().max(10.0)));
        assert_eq!(row_product(a.slice(s![69.., ..]), b.view()), found.slice(s![69.., ..]));
    }
}
