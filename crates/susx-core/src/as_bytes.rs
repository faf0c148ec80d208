//! Many numbers as bytes, which are copied as a whole and not number by number: for serde's attribute `with`.
//!
//! The bytes have the order of the machine, so they are for processes on the same kind of machine.

use bytemuck::Pod;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};

fn numbers_of<T: Pod, E: Error>(bytes: &[u8]) -> Result<Vec<T>, E> {
    match bytes.len() % size_of::<T>() {
        0 => Ok(bytemuck::pod_collect_to_vec(bytes)),
        _ => Err(E::custom("a number is cut off")),
    }
}

/// For `Vec<T>`.
pub(crate) mod numbers {
    use super::*;

    pub(crate) fn serialize<T: Pod, S: Serializer>(numbers: &[T], serializer: S) -> Result<S::Ok, S::Error> {
        Bytes::new(bytemuck::cast_slice(numbers)).serialize(serializer)
    }

    pub(crate) fn deserialize<'a, T: Pod, D: Deserializer<'a>>(deserializer: D) -> Result<Vec<T>, D::Error> {
        numbers_of(&ByteBuf::deserialize(deserializer)?)
    }
}

/// For `Array2<T>`.
pub(crate) mod matrix {
    use ndarray::Array2;

    use super::*;

    pub(crate) fn serialize<T: Pod, S: Serializer>(
        matrix: &Array2<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let rows = matrix.as_standard_layout();
        let numbers = rows.as_slice().unwrap_or_default();
        (matrix.dim(), Bytes::new(bytemuck::cast_slice(numbers))).serialize(serializer)
    }

    pub(crate) fn deserialize<'a, T: Pod, D: Deserializer<'a>>(
        deserializer: D,
    ) -> Result<Array2<T>, D::Error> {
        let (shape, bytes) = <((usize, usize), ByteBuf)>::deserialize(deserializer)?;
        Array2::from_shape_vec(shape, numbers_of(&bytes)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Saved {
        #[serde(with = "super::numbers")]
        numbers: Vec<f64>,
        #[serde(with = "super::matrix")]
        matrix: Array2<f32>,
        after: u8,
    }

    #[test]
    fn numbers_round_trip() {
        let matrix = array![[1.5, f32::MIN_POSITIVE, -0.0], [f32::INFINITY, 4.0, 1e-40]];
        for matrix in [matrix.clone(), matrix.t().to_owned(), matrix.reversed_axes(), Array2::zeros((0, 3))] {
            let saved = Saved { numbers: vec![0.1, -2.0], matrix, after: 7 };
            let bytes = postcard::to_stdvec(&saved).unwrap();
            assert_eq!(postcard::from_bytes::<Saved>(&bytes).unwrap(), saved);
            for length in 0..bytes.len() {
                assert!(postcard::from_bytes::<Saved>(&bytes[..length]).is_err(), "{length}");
            }
        }
    }

    #[test]
    fn what_has_another_length_is_refused() {
        let bytes = |count: usize| vec![0u8; count];
        let with = |numbers: usize, numbers_of_matrix: usize| {
            postcard::to_stdvec(&(bytes(numbers), (2usize, 3usize), bytes(numbers_of_matrix), 7u8)).unwrap()
        };
        assert!(postcard::from_bytes::<Saved>(&with(8, 24)).is_ok());
        for (numbers, of_matrix) in [(7, 24), (8, 23), (8, 20), (8, 28)] {
            assert!(postcard::from_bytes::<Saved>(&with(numbers, of_matrix)).is_err());
        }
    }
}
