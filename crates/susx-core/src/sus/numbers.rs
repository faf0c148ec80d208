//! Numbers that never change, of this process or in bytes that several processes share.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use bytemuck::AnyBitPattern;
use ndarray::{ArcArray1, Array1, Array2, ArrayView2};

/// Bytes that never change and that other processes may share, as a mapped file.
#[derive(Clone)]
pub struct SharedBytes {
    bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl SharedBytes {
    /// All of them.
    pub fn new(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let range = 0..bytes.as_ref().len();
        SharedBytes { bytes: Arc::new(bytes), range }
    }

    /// Some of these; `None` if there are not so many.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        self.get(range.clone())?;
        let start = self.range.start;
        Some(SharedBytes { bytes: Arc::clone(&self.bytes), range: start + range.start..start + range.end })
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        (*self.bytes).as_ref().get(self.range.clone()).unwrap_or_default()
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} shared bytes", self.range.len())
    }
}

/// Numbers of this process, or in shared bytes.
#[derive(Clone, Debug)]
pub(super) enum Numbers<T> {
    Own(ArcArray1<T>),
    Shared(SharedBytes),
}

impl<T: AnyBitPattern> Numbers<T> {
    /// `count` numbers from the beginning of the bytes on; `None` if these are too few, or not aligned.
    pub fn shared(bytes: &SharedBytes, count: usize) -> Option<Self> {
        let bytes = bytes.slice(0..count.checked_mul(size_of::<T>())?)?;
        bytemuck::try_cast_slice::<u8, T>(&bytes).ok()?;
        Some(Numbers::Shared(bytes))
    }

    /// Size in the memory of this process, in bytes.
    pub fn size(&self) -> usize {
        match self {
            Numbers::Own(numbers) => numbers.len() * size_of::<T>(),
            Numbers::Shared(_) => 0,
        }
    }
}

impl<T: Clone> From<Vec<T>> for Numbers<T> {
    fn from(numbers: Vec<T>) -> Self {
        Numbers::Own(Array1::from_vec(numbers).into_shared())
    }
}

impl<T: AnyBitPattern> Deref for Numbers<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Numbers::Own(numbers) => numbers.as_slice().unwrap_or_default(),
            // Checked when they were made.
            Numbers::Shared(bytes) => bytemuck::try_cast_slice(bytes).unwrap_or_default(),
        }
    }
}

/// A matrix of [`Numbers`], row by row.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    numbers: Numbers<f32>,
    shape: (usize, usize),
}

impl Matrix {
    /// The matrix of this shape at the beginning of the bytes; `None` if these are too few, or not aligned.
    pub fn shared(bytes: &SharedBytes, shape: (usize, usize)) -> Option<Self> {
        Some(Matrix { numbers: Numbers::shared(bytes, shape.0.checked_mul(shape.1)?)?, shape })
    }

    pub fn view(&self) -> ArrayView2<'_, f32> {
        // The numbers are as many as the shape says.
        ArrayView2::from_shape(self.shape, &self.numbers).unwrap_or_else(|_| ArrayView2::from(&[[0.0; 0]; 0]))
    }

    /// All of them, row by row.
    pub fn numbers(&self) -> &[f32] {
        &self.numbers
    }

    /// The number of rows and that of columns.
    pub fn dim(&self) -> (usize, usize) {
        self.shape
    }

    /// Size in the memory of this process, in bytes.
    pub fn size(&self) -> usize {
        self.numbers.size()
    }
}

impl From<Array2<f32>> for Matrix {
    fn from(matrix: Array2<f32>) -> Self {
        let shape = matrix.dim();
        Matrix { numbers: Numbers::Own(matrix.into_flat().into_shared()), shape }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_numbers_are_those_of_the_bytes() {
        let numbers: Vec<i64> = (0..6).map(|i| i * i - 7).collect();
        let bytes = SharedBytes::new(bytemuck::cast_slice::<i64, u8>(&numbers).to_vec());
        // A vector of bytes need not be aligned: only some of its slices are.
        let aligned = (0..8).find_map(|start| Numbers::<i64>::shared(&bytes.slice(start..48)?, 5));
        assert!(aligned.is_some_and(|found| found.len() == 5 && found.size() == 0));
        assert!(Numbers::<i64>::shared(&bytes, 7).is_none());
        assert!(Numbers::<i64>::shared(&bytes, usize::MAX).is_none());
        assert!(bytes.slice(40..49).is_none());
        assert_eq!(bytes.slice(8..48).and_then(|rest| rest.slice(8..16)).as_deref(), Some(&bytes[16..24]));
    }

    #[test]
    fn a_matrix_is_the_same_in_shared_bytes() {
        let matrix = Array2::from_shape_fn((3, 4), |(i, j)| (i * 4 + j) as f32);
        let own = Matrix::from(matrix.clone());
        assert_eq!(own.view(), matrix);
        assert_eq!((own.dim(), own.size()), ((3, 4), 48));
        // Numbers that are aligned as such.
        struct Aligned(Vec<f32>);
        impl AsRef<[u8]> for Aligned {
            fn as_ref(&self) -> &[u8] {
                bytemuck::cast_slice(&self.0)
            }
        }
        let bytes = SharedBytes::new(Aligned(matrix.iter().copied().collect()));
        let shared = Matrix::shared(&bytes, (3, 4));
        assert!(shared.is_some_and(|shared| shared.view() == matrix && shared.size() == 0));
        assert!(Matrix::shared(&bytes, (3, 5)).is_none());
        assert!(bytes.slice(1..48).is_some_and(|odd| Matrix::shared(&odd, (2, 4)).is_none()));
    }
}
