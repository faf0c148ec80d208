//! The inner loops of the methods: matrix products and exponentials, with vector instructions and without threads. This
//! file has the only `unsafe` of the methods.

mod rowwise;

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2, Axis, LinalgScalar};
use rten_simd::SimdUnaryOp;
use rten_vecmath::Exp;

pub(crate) use rowwise::{aligned, aligned_rows, row_product, row_product_into, row_sums};

use crate::interrupt;

/// Multiplications between two interrupt checks: a few milliseconds.
const PIECE: usize = 1 << 25;
/// Exponentials, or elements of a matrix that are processed in a simple way, between two interrupt checks.
const ELEMENTS: usize = 1 << 20;

/// Number of rows to process together in a matrix with this many columns, `limit` at most: few enough that an operation on
/// all their elements needs little time and memory.
pub(crate) fn block_rows(columns: usize, limit: usize) -> usize {
    (ELEMENTS / columns.max(1)).clamp(1, limit.max(1))
}

/// `a b^T`, n × m, of `a` (n × d) and `b` (m × d).
///
/// For fits. A row of the result may be rounded in another way when `a` has other rows: for queries there is [`row_product`].
pub(crate) fn product<T: LinalgScalar>(a: ArrayView2<T>, b: ArrayView2<T>) -> Array2<T> {
    let ((rows, dimensions), columns) = (a.dim(), b.nrows());
    assert_eq!(b.ncols(), dimensions, "rows of different lengths");
    let mut out = Array2::zeros((rows, columns));
    if rows.saturating_mul(columns).saturating_mul(dimensions) <= PIECE {
        piece_into(a, b, out.view_mut());
        return out;
    }
    // Pieces are as square as the matrices allow, because square pieces read the least memory.
    let elements = (PIECE / dimensions).max(1);
    let high = elements.isqrt().clamp(1, rows);
    let wide = (elements / high).clamp(1, columns);
    let high = (elements / wide).clamp(1, rows);
    for (a, mut out) in a.axis_chunks_iter(Axis(0), high).zip(out.axis_chunks_iter_mut(Axis(0), high)) {
        for (b, out) in b.axis_chunks_iter(Axis(0), wide).zip(out.axis_chunks_iter_mut(Axis(1), wide)) {
            piece_into(a, b, out);
        }
    }
    out
}

/// Like [`product`], in one piece, into `out` (n × m).
fn piece_into<T: LinalgScalar>(a: ArrayView2<T>, b: ArrayView2<T>, mut out: ArrayViewMut2<T>) {
    interrupt::check();
    let ((rows, dimensions), columns) = (a.dim(), b.nrows());
    // The pointers below rely on these.
    assert_eq!(b.ncols(), dimensions, "rows of different lengths");
    assert_eq!(out.dim(), (rows, columns), "an output of another shape");
    let (out_strides, a_strides, b_strides) =
        ([out.strides()[0], out.strides()[1]], a.strides(), b.strides());
    // SAFETY: the pointers and strides belong to views of the sizes that are passed, with `b` transposed. `out` is
    // borrowed mutably, so it overlaps neither, and every element of it is written.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            dimensions,
            out.as_mut_ptr(),
            out_strides[1],
            out_strides[0],
            false,
            a.as_ptr(),
            a_strides[1],
            a_strides[0],
            b.as_ptr(),
            b_strides[0],
            b_strides[1],
            T::zero(),
            T::one(),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// `e^x` of every element, to within one unit in the last place.
pub(crate) fn exp(values: &mut [f32]) {
    for values in values.chunks_mut(ELEMENTS) {
        interrupt::check();
        Exp {}.map_mut(values);
    }
}

/// The sum, added up in several lanes; a plain `sum()` may not change the order of additions.
pub(crate) fn sum(values: &[f32]) -> f32 {
    const LANES: usize = 8;
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x;
        }
    }
    // In pairs, so that the additions do not depend on each other.
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h)) + rest.iter().sum::<f32>()
}

/// The largest element; minus infinity of none.
pub(crate) fn largest(values: ArrayView1<f32>) -> f32 {
    values.fold(f32::NEG_INFINITY, |most, &x| most.max(x))
}

/// The quantile of ascending numbers, at least one, between two of which it is interpolated.
pub(crate) fn quantile(ascending: &[f64], share: f64) -> f64 {
    let place = share * (ascending.len() - 1) as f64;
    let (below, above) = (ascending[place.floor() as usize], ascending[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// The point of an interval of positive numbers up to which `is_below` holds, by halving it on a logarithmic axis.
pub(crate) fn bisect((low, high): (f64, f64), halvings: usize, is_below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (low.ln(), high.ln());
    for _ in 0..halvings {
        let middle = (low + high) / 2.0;
        if is_below(middle.exp()) {
            low = middle;
        } else {
            high = middle;
        }
    }
    ((low + high) / 2.0).exp()
}

/// The smallest and the largest element.
pub(crate) fn range(values: &[f32]) -> (f32, f32) {
    const LANES: usize = 8;
    let (chunks, rest) = values.as_chunks::<LANES>();
    let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    for chunk in chunks {
        for i in 0..LANES {
            low[i] = if chunk[i] < low[i] { chunk[i] } else { low[i] };
            high[i] = if chunk[i] > high[i] { chunk[i] } else { high[i] };
        }
    }
    let low = low.iter().chain(rest).copied().fold(f32::INFINITY, f32::min);
    let high = high.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, columns: usize) -> Array2<f32> {
        Array2::from_shape_fn((rows, columns), |(i, j)| ((i * 31 + j * 17) % 23) as f32 / 23.0 - 0.4)
    }

    #[test]
    fn a_product_is_that_of_ndarray() {
        for (n, m, d) in [(1, 1, 1), (1, 37, 19), (5, 3, 64), (33, 70, 7), (23, 65, 9), (0, 4, 3), (4, 0, 3)]
        {
            let (a, b) = (matrix(n, d), matrix(m, d));
            let expected = a.dot(&b.t());
            assert!((product(a.view(), b.view()) - &expected).iter().all(|x| x.abs() < 1e-4));
            // Of transposed views too.
            let (a, b) = (matrix(d, n), matrix(d, m));
            let expected = a.t().dot(&b);
            assert!((product(a.t(), b.t()) - &expected).iter().all(|x| x.abs() < 1e-4));
        }
    }

    #[test]
    fn quantiles_lie_between_two_numbers() {
        for (share, expected) in [(0.0, 1.0), (0.25, 1.75), (0.5, 3.0), (1.0, 9.0)] {
            assert_eq!(quantile(&[1.0, 2.0, 4.0, 9.0], share), expected);
        }
        assert_eq!(quantile(&[7.0], 0.35), 7.0);
    }

    #[test]
    fn a_bisection_ends_where_the_condition_does() {
        assert!((bisect((1e-2, 1e5), 60, |x| x * x < 2.0) - 2.0f64.sqrt()).abs() < 1e-12);
        // If the condition does not end inside the interval, the result is an end of the interval.
        assert!((bisect((1.0, 4.0), 30, |_| true) - 4.0).abs() < 1e-6);
    }

    #[test]
    fn sums_and_ranges_of_every_length() {
        for length in [0, 1, 7, 8, 9, 100] {
            let values: Vec<f32> = (0..length).map(|i| ((i * 7) % 13) as f32 - 5.0).collect();
            assert_eq!(sum(&values), values.iter().sum::<f32>());
            let expected = values
                .iter()
                .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)));
            assert_eq!(range(&values), expected);
        }
    }

    /// Much larger than a piece, in shapes that are not multiples of one.
    #[test]
    fn a_large_product_is_that_of_its_rows() {
        for (n, m, d) in [(1, 70_001, 700), (70_001, 1, 700), (523, 517, 601), (3, 2, 9_000_000)] {
            let (a, b) = (matrix(n, d), matrix(m, d));
            let all = product(a.view(), b.view());
            for row in [0, n / 2, n - 1] {
                for column in [0, m / 3, m - 1] {
                    let exact = a
                        .row(row)
                        .iter()
                        .zip(b.row(column))
                        .map(|(&x, &y)| f64::from(x) * f64::from(y))
                        .sum::<f64>();
                    let found = f64::from(all[(row, column)]);
                    assert!(
                        (found - exact).abs() < 1e-4 * exact.abs().max(d as f64 * 1e-2),
                        "{found} {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn exp_is_exact_enough() {
        let mut values: Vec<f32> = (-2000..100).map(|i| i as f32 / 20.0).collect();
        values.push(f32::NEG_INFINITY);
        let expected: Vec<f32> = values.iter().map(|x| x.exp()).collect();
        exp(&mut values);
        for (x, y) in values.iter().zip(expected) {
            assert!((x - y).abs() <= 2e-7 * y + 1e-37, "{x} {y}");
        }
    }
}
