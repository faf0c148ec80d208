//! The inverse of a positive definite matrix, with frequent interrupt checks.
//!
//! It works block by block, so that everything except the small blocks on the diagonal is a matrix product. Products are
//! fast and check for interrupts often, which the inverse of a library does not.

use nalgebra::{Cholesky, DMatrix};
use ndarray::{Array2, ArrayView2, s};

use crate::interrupt;
use crate::linalg::product;

/// Rows of a block.
const BLOCK: usize = 64;

/// The inverse of a symmetric matrix; `None` if it is not positive definite. O(n^3).
pub(super) fn inverse_of_positive(matrix: Array2<f64>) -> Option<Array2<f64>> {
    let inverse = inverse_of_factor(matrix)?;
    // A = L L^T, so A^-1 = L^-T L^-1.
    Some(product(inverse.t(), inverse.t()))
}

/// `L^-1`, where `L` is the lower triangular matrix with `L L^T = matrix`. Reuses the memory of the matrix.
///
/// Proceeds by rows of blocks: with `W = L^-1` known above row `i`, and `A_i` the matrix left of the diagonal, the row
/// of `L` is `X = A_i W^T`, the diagonal `L_ii L_ii^T = A_ii - X X^T`, and the row of `W` is `-L_ii^-1 X W`.
fn inverse_of_factor(mut matrix: Array2<f64>) -> Option<Array2<f64>> {
    let size = matrix.nrows();
    for start in (0..size).step_by(BLOCK) {
        interrupt::check();
        let end = (start + BLOCK).min(size);
        let above = matrix.slice(s![..start, ..start]);
        let row = product(matrix.slice(s![start..end, ..start]), above);
        let diagonal = &matrix.slice(s![start..end, start..end]) - &product(row.view(), row.view());
        let inverse = inverse_of_small_factor(diagonal.view())?;
        let left = product(inverse.view(), product(row.view(), above.t()).t());
        matrix.slice_mut(s![start..end, ..start]).assign(&-left);
        matrix.slice_mut(s![start..end, start..end]).assign(&inverse);
        matrix.slice_mut(s![start..end, end..]).fill(0.0);
    }
    Some(matrix)
}

/// Like [`inverse_of_factor`], for one block.
fn inverse_of_small_factor(block: ArrayView2<f64>) -> Option<Array2<f64>> {
    let size = block.nrows();
    let columns = DMatrix::from_fn(size, size, |i, j| block[(i, j)]);
    let factor = Cholesky::new(columns)?.unpack();
    let inverse = factor.solve_lower_triangular(&DMatrix::identity(size, size))?;
    Some(Array2::from_shape_fn((size, size), |(i, j)| inverse[(i, j)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For different numbers of blocks, complete and partial.
    #[test]
    fn the_product_with_the_inverse_is_one() {
        for size in [1, 2, 63, 64, 65, 128, 200] {
            let rows = Array2::from_shape_fn((size + 3, size), |(i, j)| {
                (((i * 37 + j * 61) % 101) as f64 / 101.0).sin()
            });
            let mut matrix = product(rows.t(), rows.t());
            matrix.diag_mut().mapv_inplace(|x| x + 0.1);
            let inverse = inverse_of_positive(matrix.clone()).unwrap();
            let one = product(matrix.view(), inverse.view()) - Array2::<f64>::eye(size);
            assert!(one.iter().all(|x| x.abs() < 1e-8), "{size}");
            assert!((&inverse - &inverse.t()).iter().all(|x| x.abs() < 1e-9), "{size}");
        }
    }

    #[test]
    fn what_is_not_positive_definite_has_none() {
        for size in [1, 65, 130] {
            let mut matrix = Array2::<f64>::eye(size);
            matrix[(size - 1, size - 1)] = -1.0;
            assert_eq!(inverse_of_positive(matrix), None);
        }
        assert_eq!(inverse_of_positive(Array2::from_elem((2, 2), f64::NAN)), None);
    }
}
