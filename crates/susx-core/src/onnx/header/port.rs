//! Inputs and outputs.

use ort::value::TensorElementType;

use crate::onnx::graph::Port;

/// An input or output, as far as it was read.
#[derive(Default)]
pub struct OpenPort {
    pub name: String,
    /// The element type of `onnx.proto`.
    pub element: u64,
    pub shape: Option<Vec<i64>>,
    /// The extent of the dimension that is being read; -1 for any.
    pub dimension: i64,
}

impl From<OpenPort> for Port {
    fn from(port: OpenPort) -> Port {
        let element = element(port.element);
        let dtype = match element {
            Some(element) => format!("Tensor<{element}>"),
            None => "unknown".to_owned(),
        };
        Port { name: port.name, element, shape: port.shape.unwrap_or_default(), dtype }
    }
}

/// The element type of this number in `onnx.proto`.
fn element(number: u64) -> Option<TensorElementType> {
    Some(match number {
        1 => TensorElementType::Float32,
        2 => TensorElementType::Uint8,
        3 => TensorElementType::Int8,
        4 => TensorElementType::Uint16,
        5 => TensorElementType::Int16,
        6 => TensorElementType::Int32,
        7 => TensorElementType::Int64,
        8 => TensorElementType::String,
        9 => TensorElementType::Bool,
        10 => TensorElementType::Float16,
        11 => TensorElementType::Float64,
        12 => TensorElementType::Uint32,
        13 => TensorElementType::Uint64,
        16 => TensorElementType::Bfloat16,
        _ => return None,
    })
}
