//! The inverse of a covariance with a ridge.

use nalgebra::{Cholesky, DMatrix};
use ndarray::{Array2, ArrayView2, Axis, concatenate};

use crate::linalg::product;

/// A covariance with a smaller trace is that of rows that are all at their categories' means.
const NO_TRACE: f64 = 1e-12;

/// A covariance `S = A^T A`, in whichever form is the smaller.
#[derive(Clone, Debug)]
pub(super) enum Scatter {
    /// `S`, d x d.
    Primal(Array2<f64>),
    /// `A` (M x d) and `A A^T` (M x M), of fewer rows than dimensions.
    Dual(Array2<f64>, Array2<f64>),
}

/// `P = (S + ridge * tr(S)/d * I)^-1`.
#[derive(Clone, Debug)]
pub(super) enum Precision {
    /// `P`, d x d.
    Primal(Array2<f64>),
    /// With `r = ridge * tr(S)/d`: `A`, `(r I + A A^T)^-1` and `r`, as `r P = I - A^T (r I + A A^T)^-1 A`.
    Dual(Array2<f64>, Array2<f64>, f64),
    /// Of no covariance at all, where only the directions of products count.
    Identity,
}

impl Scatter {
    /// From the rows of `A`, which `rows` adds block by block.
    pub fn of(dimensions: usize, count: usize, rows: impl FnOnce(&mut dyn FnMut(Array2<f64>))) -> Self {
        if count >= dimensions {
            let mut scatter = Array2::zeros((dimensions, dimensions));
            rows(&mut |block| scatter += &product(block.t(), block.t()));
            return Scatter::Primal(scatter);
        }
        let mut blocks = Vec::new();
        rows(&mut |block| blocks.push(block));
        let views: Vec<ArrayView2<f64>> = blocks.iter().map(|block| block.view()).collect();
        // Blocks of the same width always fit together.
        let all = concatenate(Axis(0), &views).unwrap_or_else(|_| Array2::zeros((0, dimensions)));
        let gram = product(all.view(), all.view());
        Scatter::Dual(all, gram)
    }

    fn trace(&self) -> f64 {
        match self {
            Scatter::Primal(scatter) => scatter.diag().sum(),
            Scatter::Dual(_, gram) => gram.diag().sum(),
        }
    }

    /// O(min(M, d)^3).
    pub fn precision(&self, ridge: f64) -> Precision {
        let trace = self.trace();
        if trace <= NO_TRACE {
            return Precision::Identity;
        }
        let inverse = |matrix: &Array2<f64>, ridge: f64| {
            let mut matrix = matrix.clone();
            matrix.diag_mut().mapv_inplace(|x| x + ridge);
            inverse(&matrix)
        };
        match self {
            Scatter::Primal(scatter) => {
                inverse(scatter, ridge * trace / scatter.nrows() as f64).map(Precision::Primal)
            }
            Scatter::Dual(rows, gram) => {
                let ridge = ridge * trace / rows.ncols() as f64;
                inverse(gram, ridge).map(|inner| Precision::Dual(rows.clone(), inner, ridge))
            }
        }
        .unwrap_or(Precision::Identity)
    }
}

impl Precision {
    /// `P v` of every row `v`, n x d. O(n d min(M, d)).
    pub fn apply(&self, vectors: ArrayView2<f64>) -> Array2<f64> {
        match self {
            Precision::Primal(inverse) => product(vectors, inverse.view()),
            Precision::Dual(rows, inner, ridge) => {
                let pulls = product(product(vectors, rows.view()).view(), inner.view());
                (&vectors - &product(pulls.view(), rows.t())) / *ridge
            }
            Precision::Identity => vectors.to_owned(),
        }
    }

    /// Bytes on the heap.
    pub fn size(&self) -> usize {
        let elements = match self {
            Precision::Primal(inverse) => inverse.len(),
            Precision::Dual(rows, inner, _) => rows.len() + inner.len(),
            Precision::Identity => 0,
        };
        elements * size_of::<f64>()
    }
}

/// Of a symmetric matrix that is positive definite, which one with a ridge is; `None` of any other.
fn inverse(matrix: &Array2<f64>) -> Option<Array2<f64>> {
    let size = matrix.nrows();
    // Row by row or column by column, a symmetric matrix is the same.
    let columns = DMatrix::from_iterator(size, size, matrix.iter().copied());
    let inverse = Cholesky::new(columns)?.inverse();
    Array2::from_shape_vec((size, size), inverse.as_slice().to_vec()).ok()
}
