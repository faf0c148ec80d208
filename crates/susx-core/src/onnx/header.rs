//! What an ONNX file says about itself, read without loading it: its inputs and outputs, its operations, the precision of
//! its weights, and the files that hold weights.
//!
//! An `.onnx` file is one protobuf message. [`Walk`] follows the paths to what is wanted and skips everything else, so it
//! does not read weights inside the file.

mod message;
mod port;
#[cfg(test)]
mod tests;
mod walk;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{OnnxError, Result};
use super::external_data;
use super::graph::Port;
use walk::Walk;

/// Limit of a graph's size, in bytes. Protobuf allows no longer message, so larger weights are in other files.
const MAX_GRAPH_BYTES: u64 = 2 << 30;

/// What an ONNX file says about itself.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// Version of the operator set of ONNX itself, without those of extensions.
    pub opset: Option<u64>,
    /// Inputs that a run must give.
    pub inputs: Vec<Port>,
    /// Outputs.
    pub outputs: Vec<Port>,
    /// Whether the number of axes of every output is stated. ONNX Runtime finds those that are not.
    pub outputs_have_shapes: bool,
    /// Kinds of operations, such as `MatMul`.
    operations: BTreeSet<String>,
    /// Number of weights by the element types of `onnx.proto`.
    weights: BTreeMap<u64, u64>,
    /// Constants of one number in single precision, by their names.
    scalars: BTreeMap<String, f32>,
    /// Names of the files with external weights, each with the length that it must have at least.
    locations: BTreeMap<String, u64>,
}

/// Operations that scale a whole tensor by its extremes, so that a row's result depends on the other rows.
const SCALED_BY_BATCH: [&str; 3] = ["DynamicQuantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul"];

/// Operations on weights that are stored as integers.
const QUANTIZED: [&str; 8] = [
    "ConvInteger",
    "DequantizeLinear",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "QAttention",
    "QLinearConv",
    "QLinearMatMul",
];

/// Names of precisions by the element types of `onnx.proto`.
const PRECISIONS: [(u64, &str); 8] = [
    (1, "fp32"),
    (2, "uint8"),
    (3, "int8"),
    (10, "fp16"),
    (11, "fp64"),
    (16, "bf16"),
    (21, "uint4"),
    (22, "int4"),
];

impl Header {
    /// Reads the header of the ONNX file at `path`. Fails if it is not an ONNX file.
    pub fn read(path: &Path) -> Result<Header> {
        let failed = |error: io::Error| OnnxError::file(path, error);
        let file = File::open(path).map_err(failed)?;
        let end = file.metadata().map_err(failed)?.len();
        if end > MAX_GRAPH_BYTES {
            let reason = format!("it has {end} bytes, but an ONNX file has at most {MAX_GRAPH_BYTES}");
            return Err(OnnxError::file(path, reason));
        }
        Walk::through(file, end).map_err(failed)
    }

    /// The precision of the weights, such as `fp16` or `int8`: that of most, or in a quantised graph that of most integers, as
    /// some weights are not quantised. `q4` and `bnb4` are packed weights of four bits. `None` for a graph without weights.
    pub fn precision(&self) -> Option<&'static str> {
        if self.operations.contains("MatMulBnb4") {
            return Some("bnb4");
        }
        if self.operations.contains("MatMulNBits") {
            return Some("q4");
        }
        let count = |kind: u64| self.weights.get(&kind).copied().unwrap_or(0);
        let is_quantized = QUANTIZED.iter().any(|kind| self.operations.contains(*kind));
        let most = |of_integers: bool| {
            let kinds = PRECISIONS.iter().filter(|(_, name)| !of_integers || name.contains("int"));
            let most = kinds.max_by_key(|(kind, _)| count(*kind));
            most.filter(|(kind, _)| count(*kind) > 0).map(|(_, name)| *name)
        };
        most(true).filter(|_| is_quantized).or_else(|| most(false))
    }

    /// Whether a row's result depends on the other rows of its batch: activations are quantised with one scale for all.
    pub fn depends_on_batch(&self) -> bool {
        SCALED_BY_BATCH.iter().any(|kind| self.operations.contains(*kind))
    }

    /// The files with external weights. `path` is that of the graph; all lie in its folder or below.
    ///
    /// Fails if one is missing, shorter than the graph says, or elsewhere.
    pub fn weight_files(&self, path: &Path) -> Result<Vec<PathBuf>> {
        external_data::files(path, &self.locations)
    }

    /// The constant of one number whose name is `name`, or ends with a dot and `name`.
    pub fn scalar(&self, name: &str) -> Option<f32> {
        let is_named = |found: &str| {
            found.strip_suffix(name).is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.'))
        };
        self.scalars.iter().find(|(found, _)| is_named(found)).map(|(_, value)| *value)
    }
}
