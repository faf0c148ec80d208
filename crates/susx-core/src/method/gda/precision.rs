//! The inverse of a covariance with a ridge.

use ndarray::{Array2, ArrayView2, Axis, concatenate};
use serde::{Deserialize, Serialize};

use super::inverse::inverse_of_positive;
use crate::linalg::product;

/// With a smaller variance all rows are at the means of their categories, up to rounding.
const MIN_VARIANCE: f64 = 1e-12;

/// A covariance `S = Z^T Z`, up to a factor, in whichever form is smaller.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::method) enum Scatter {
    /// `S`, d × d.
    Primal(#[serde(with = "crate::as_bytes::matrix")] Array2<f64>),
    /// `Z` (M × d) and `Z Z^T` (M × M), for fewer rows than dimensions.
    Dual {
        #[serde(with = "crate::as_bytes::matrix")]
        rows: Array2<f64>,
        #[serde(with = "crate::as_bytes::matrix")]
        gram: Array2<f64>,
    },
}

/// `P = (S / t + ridge I)^-1`, where `t = tr(S) / d` is the mean variance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::method) enum Precision {
    /// `P`, d × d.
    Primal(#[serde(with = "crate::as_bytes::matrix")] Array2<f64>),
    /// `Z` (M × d) and `inner = (Z Z^T / t + ridge I)^-1 / t` (M × M): `ridge P = I - Z^T inner Z`.
    Dual {
        #[serde(with = "crate::as_bytes::matrix")]
        rows: Array2<f64>,
        #[serde(with = "crate::as_bytes::matrix")]
        inner: Array2<f64>,
        ridge: f64,
    },
    /// Without variance, up to a factor.
    Identity,
}

impl Scatter {
    /// From `count` rows of `Z`, which `rows` passes block by block to the function it is given.
    pub fn of(dimensions: usize, count: usize, rows: impl FnOnce(&mut dyn FnMut(Array2<f64>))) -> Self {
        if count >= dimensions {
            let mut scatter = Array2::zeros((dimensions, dimensions));
            rows(&mut |block| scatter += &product(block.t(), block.t()));
            return Scatter::Primal(scatter);
        }
        let mut blocks = Vec::new();
        rows(&mut |block| blocks.push(block));
        let views: Vec<ArrayView2<f64>> = blocks.iter().map(|block| block.view()).collect();
        // Cannot fail: all blocks have the same width.
        let rows = concatenate(Axis(0), &views).unwrap_or_else(|_| Array2::zeros((0, dimensions)));
        let gram = product(rows.view(), rows.view());
        Scatter::Dual { rows, gram }
    }

    /// `t`, the mean variance per dimension; `None` if the rows do not vary.
    pub fn variance(&self) -> Option<f64> {
        let variance = match self {
            Scatter::Primal(scatter) => scatter.diag().sum() / scatter.nrows() as f64,
            Scatter::Dual { rows, gram } => gram.diag().sum() / rows.ncols() as f64,
        };
        (variance > MIN_VARIANCE).then_some(variance)
    }

    /// The inverse with a ridge. O(min(M, d)^3).
    pub fn precision(&self, ridge: f64) -> Precision {
        let Some(variance) = self.variance() else { return Precision::Identity };
        let precision = match self {
            Scatter::Primal(scatter) => inverse(scatter, variance, ridge).map(Precision::Primal),
            Scatter::Dual { rows, gram } => inverse(gram, variance, ridge).map(|inner| Precision::Dual {
                rows: rows.clone(),
                inner: inner / variance,
                ridge,
            }),
        };
        precision.unwrap_or(Precision::Identity)
    }
}

impl Precision {
    /// `P v` of every row `v`, n × d. O(n d min(M, d)).
    pub fn apply(&self, vectors: ArrayView2<f64>) -> Array2<f64> {
        match self {
            Precision::Primal(inverse) => product(vectors, inverse.view()),
            Precision::Dual { rows, inner, ridge } => {
                let projected = product(product(vectors, rows.view()).view(), inner.view());
                (&vectors - &product(projected.view(), rows.t())) / *ridge
            }
            Precision::Identity => vectors.to_owned(),
        }
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        let elements = match self {
            Precision::Primal(inverse) => inverse.len(),
            Precision::Dual { rows, inner, .. } => rows.len() + inner.len(),
            Precision::Identity => 0,
        };
        elements * size_of::<f64>()
    }
}

/// `(matrix / divisor + ridge I)^-1` of a symmetric matrix; `None` if that is not positive definite, which does not happen
/// for a covariance with a ridge.
fn inverse(matrix: &Array2<f64>, divisor: f64, ridge: f64) -> Option<Array2<f64>> {
    let mut matrix = matrix / divisor;
    matrix.diag_mut().mapv_inplace(|x| x + ridge);
    inverse_of_positive(matrix)
}
