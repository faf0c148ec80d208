//! What an ONNX file says about itself, read without loading it: its inputs and outputs, its operations, the precision of
//! its weights, and the files that hold weights.
//!
//! An `.onnx` file is one protobuf message. [`Walk`] follows the paths to what is wanted and skips everything else, so it
//! does not read weights inside the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use ort::value::TensorElementType;

use super::error::{OnnxError, Result};
use super::external_data;
use super::graph::Port;

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
        let mut walk = Walk::new(file);
        walk.message(Message::Model, end, 0).map_err(failed)?;
        Ok(walk.finish())
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

/// The messages of `onnx.proto` on the path to what is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Opset,
    /// The model's own graph.
    Graph,
    /// A graph inside a node, such as the body of a loop.
    Subgraph,
    Function,
    Node,
    Attribute,
    SparseTensor,
    /// A weight of the model's own graph.
    Initializer,
    /// Any other constant.
    Tensor,
    /// A key and a value of `external_data`.
    Entry,
    Input,
    Output,
    Type,
    TensorType,
    Shape,
    Dimension,
}

impl Message {
    /// The message in field `number` of this one, if the walk follows it.
    fn field(self, number: u64) -> Option<Message> {
        Some(match (self, number) {
            (Message::Model, 7) => Message::Graph,
            (Message::Model, 8) => Message::Opset,
            (Message::Model, 25) => Message::Function,
            (Message::Graph | Message::Subgraph, 1) | (Message::Function, 7) => Message::Node,
            (Message::Graph, 5) => Message::Initializer,
            (Message::Graph, 11) => Message::Input,
            (Message::Graph, 12) => Message::Output,
            (Message::Subgraph, 5) => Message::Tensor,
            (Message::Graph | Message::Subgraph, 15) => Message::SparseTensor,
            (Message::Node, 5) => Message::Attribute,
            (Message::Attribute, 5 | 10) => Message::Tensor,
            (Message::Attribute, 6 | 11) => Message::Subgraph,
            (Message::Attribute, 22 | 23) => Message::SparseTensor,
            (Message::SparseTensor, 1 | 2) => Message::Tensor,
            (Message::Tensor | Message::Initializer, 13) => Message::Entry,
            (Message::Input | Message::Output, 2) => Message::Type,
            (Message::Type, 1) => Message::TensorType,
            (Message::TensorType, 2) => Message::Shape,
            (Message::Shape, 1) => Message::Dimension,
            _ => return None,
        })
    }
}

/// Limit of nested messages: more than any model has, few enough for the stack.
const MAX_DEPTH: u32 = 64;
/// Limit of a graph's size, in bytes. Protobuf allows no longer message, so larger weights are in other files.
const MAX_GRAPH_BYTES: u64 = 2 << 30;
/// Limit of fields: more than the graph of any model has, and walked through in a fraction of a second.
const MAX_FIELDS: u64 = 20_000_000;
/// Limit of a key or value, in bytes.
const MAX_TEXT_BYTES: u64 = 4096;
/// Limit of all names that are kept, in bytes: several times those of the largest models.
const MAX_NAME_BYTES: usize = 64 << 20;
/// What a name takes in addition to its bytes.
const NAME_OVERHEAD: usize = 64;

/// One pass through an ONNX file.
struct Walk {
    reader: BufReader<File>,
    /// Position in the file.
    at: u64,
    /// Fields seen so far.
    fields: u64,
    /// Bytes of the names that are kept.
    name_bytes: usize,
    header: Header,
    /// Names of the weights, which older graphs list as inputs, too.
    initializers: BTreeSet<String>,
    // What is being read of the innermost message of each kind, none of which contains another of its kind.
    entry: (String, String),
    opset: (String, u64),
    port: OpenPort,
    tensor: OpenTensor,
}

#[derive(Default)]
struct OpenPort {
    name: String,
    element: u64,
    shape: Option<Vec<i64>>,
    dimension: i64,
}

#[derive(Default)]
struct OpenTensor {
    name: String,
    element: u64,
    elements: u64,
    /// The content, if it is that of one number.
    value: Option<[u8; 4]>,
    /// File with the content, and where in it that begins and how long it is, in bytes.
    location: Option<String>,
    offset: u64,
    length: u64,
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not an ONNX file: {reason}"))
}

impl Walk {
    fn new(file: File) -> Walk {
        Walk {
            reader: BufReader::new(file),
            at: 0,
            fields: 0,
            name_bytes: 0,
            header: Header { outputs_have_shapes: true, ..Header::default() },
            initializers: BTreeSet::new(),
            entry: Default::default(),
            opset: Default::default(),
            port: OpenPort::default(),
            tensor: OpenTensor::default(),
        }
    }

    fn finish(self) -> Header {
        let mut header = self.header;
        header.inputs.retain(|input| !self.initializers.contains(&input.name));
        header
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.reader.read_exact(&mut byte)?;
            self.at += 1;
            value |= u64::from(byte[0] & 0x7F) << shift;
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(invalid("a number does not end"))
    }

    fn skip(&mut self, length: u64, end: u64) -> io::Result<()> {
        if length > end.saturating_sub(self.at) {
            return Err(invalid("a field is longer than its message"));
        }
        // `length` is less than the length of the file, so it fits into an i64.
        self.reader.seek_relative(length as i64)?;
        self.at += length;
        Ok(())
    }

    fn bytes(&mut self, length: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length as usize];
        self.reader.read_exact(&mut bytes)?;
        self.at += length;
        Ok(bytes)
    }

    fn text(&mut self, length: u64) -> io::Result<String> {
        if length > MAX_TEXT_BYTES {
            return Err(invalid("the name of an external file is too long"));
        }
        String::from_utf8(self.bytes(length)?)
            .map_err(|_| invalid("the name of an external file is not UTF-8"))
    }

    /// A name. One that is too long is none that is looked for.
    fn name(&mut self, length: u64, end: u64) -> io::Result<String> {
        if length > MAX_TEXT_BYTES {
            self.skip(length, end)?;
            return Ok(String::new());
        }
        Ok(String::from_utf8_lossy(&self.bytes(length)?).into_owned())
    }

    /// Counts a name that is kept.
    fn keep(&mut self, name: &str) -> io::Result<()> {
        self.name_bytes += name.len() + NAME_OVERHEAD;
        match self.name_bytes {
            bytes if bytes > MAX_NAME_BYTES => Err(invalid("its names are too long")),
            _ => Ok(()),
        }
    }

    /// Walks through `message`, which ends at position `end` of the file.
    fn message(&mut self, message: Message, end: u64, depth: u32) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(invalid("it is nested too deeply"));
        }
        self.enter(message);
        while self.at < end {
            let tag = self.varint()?;
            self.fields += 1;
            if self.fields > MAX_FIELDS {
                return Err(invalid("it has too many fields"));
            }
            match (tag & 7, tag >> 3) {
                (_, 0) => return Err(invalid("a field has the number 0")),
                (0, number) => {
                    let value = self.varint()?;
                    self.number(message, number, value);
                }
                (1, _) => self.skip(8, end)?,
                (5, _) => self.skip(4, end)?,
                (2, number) => {
                    let length = self.varint()?;
                    let last = self.at.checked_add(length).filter(|last| *last <= end);
                    let last = last.ok_or_else(|| invalid("a field is longer than its message"))?;
                    match message.field(number) {
                        Some(inner) => self.message(inner, last, depth + 1)?,
                        None => self.content(message, number, length, last)?,
                    }
                }
                _ => return Err(invalid("a field has an unknown type")),
            }
        }
        self.leave(message)
    }

    fn enter(&mut self, message: Message) {
        match message {
            Message::Entry => self.entry = Default::default(),
            Message::Opset => self.opset = Default::default(),
            Message::Input | Message::Output => self.port = OpenPort::default(),
            Message::Shape => self.port.shape = Some(Vec::new()),
            Message::Dimension => self.port.dimension = -1,
            Message::Tensor | Message::Initializer => {
                self.tensor = OpenTensor { elements: 1, ..OpenTensor::default() };
            }
            _ => {}
        }
    }

    /// A field that is a number.
    fn number(&mut self, message: Message, number: u64, value: u64) {
        match (message, number) {
            (Message::Opset, 2) => self.opset.1 = value,
            (Message::TensorType, 1) => self.port.element = value,
            (Message::Dimension, 1) => self.port.dimension = value.cast_signed(),
            (Message::Tensor | Message::Initializer, 1) => {
                self.tensor.elements = self.tensor.elements.saturating_mul(value);
            }
            (Message::Tensor | Message::Initializer, 2) => self.tensor.element = value,
            _ => {}
        }
    }

    /// A field of bytes that ends at position `last` of the file.
    fn content(&mut self, message: Message, number: u64, length: u64, last: u64) -> io::Result<()> {
        match (message, number) {
            (Message::Entry, 1) => self.entry.0 = self.text(length)?,
            (Message::Entry, 2) => self.entry.1 = self.text(length)?,
            (Message::Opset, 1) => self.opset.0 = self.name(length, last)?,
            (Message::Input | Message::Output, 1) => self.port.name = self.name(length, last)?,
            (Message::Node, 4) => {
                let kind = self.name(length, last)?;
                if !self.header.operations.contains(&kind) {
                    self.keep(&kind)?;
                    self.header.operations.insert(kind);
                }
            }
            // The extents of a tensor in one field.
            (Message::Tensor | Message::Initializer, 1) => {
                while self.at < last {
                    let extent = self.varint()?;
                    self.tensor.elements = self.tensor.elements.saturating_mul(extent);
                }
            }
            (Message::Initializer, 8) => self.tensor.name = self.name(length, last)?,
            (Message::Initializer, 4 | 9) if length == 4 => {
                self.tensor.value = self.bytes(length)?.try_into().ok();
            }
            _ => self.skip(length, last)?,
        }
        Ok(())
    }

    fn leave(&mut self, message: Message) -> io::Result<()> {
        match message {
            Message::Entry => {
                let (key, value) = std::mem::take(&mut self.entry);
                match key.as_str() {
                    "location" => self.tensor.location = Some(value),
                    "offset" => self.tensor.offset = value.parse().unwrap_or(0),
                    "length" => self.tensor.length = value.parse().unwrap_or(0),
                    _ => {}
                }
            }
            Message::Opset => {
                if matches!(self.opset.0.as_str(), "" | "ai.onnx") {
                    self.header.opset = Some(self.opset.1);
                }
            }
            Message::Dimension => {
                let extent = self.port.dimension;
                if let Some(shape) = &mut self.port.shape {
                    shape.push(extent);
                }
            }
            Message::Input | Message::Output => {
                let port = std::mem::take(&mut self.port);
                self.keep(&port.name)?;
                if message == Message::Input {
                    self.header.inputs.push(port.into());
                } else {
                    self.header.outputs_have_shapes &= port.shape.is_some();
                    self.header.outputs.push(port.into());
                }
            }
            Message::Tensor | Message::Initializer => {
                let tensor = std::mem::take(&mut self.tensor);
                let count = self.header.weights.entry(tensor.element).or_default();
                *count = count.saturating_add(tensor.elements);
                if let Some(location) = tensor.location {
                    self.keep(&location)?;
                    let end = self.header.locations.entry(location).or_default();
                    *end = (*end).max(tensor.offset.saturating_add(tensor.length));
                }
                if message == Message::Initializer {
                    self.keep(&tensor.name)?;
                    if let (1, 1, Some(value)) = (tensor.element, tensor.elements, tensor.value) {
                        self.header.scalars.insert(tensor.name.clone(), f32::from_le_bytes(value));
                    }
                    self.initializers.insert(tensor.name);
                }
            }
            _ => {}
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of bytes in protobuf's format, shorter than 128 bytes.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, content.len() as u8], content].concat()
    }

    fn number(field: u8, value: u8) -> Vec<u8> {
        vec![field << 3, value]
    }

    fn port(name: &str, element: u8, shape: &[u8]) -> Vec<u8> {
        // A dimension has its extent (1), or a name (2) where any will do.
        let dimension = |extent: &u8| match extent {
            0 => field(1, &field(2, b"batch")),
            extent => field(1, &number(1, *extent)),
        };
        let shape: Vec<u8> = shape.iter().flat_map(dimension).collect();
        let tensor = [number(1, element), field(2, &shape)].concat();
        [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
    }

    fn read(name: &str, model: &[u8]) -> Result<Header> {
        let path = std::env::temp_dir().join(format!("susx-header-{name}-{}", std::process::id()));
        std::fs::write(&path, model).map_err(|error| OnnxError::file(&path, error))?;
        let header = Header::read(&path);
        let _ = std::fs::remove_file(&path);
        header
    }

    #[test]
    fn a_graph_says_what_it_takes_and_what_it_is_made_of() {
        let scale = [field(8, b"model.logit_scale"), number(2, 1), field(9, &2.5_f32.to_le_bytes())].concat();
        let weights = [number(1, 100), number(2, 3), field(8, b"w")].concat();
        // The body of a branch has its own input, which is not the graph's.
        let branch =
            [field(11, &port("inner", 1, &[1])), field(1, &field(4, b"DynamicQuantizeLinear"))].concat();
        let node = [field(4, b"If"), field(5, &field(6, &branch))].concat();
        let graph = [
            field(1, &node),
            field(5, &scale),
            field(5, &weights),
            field(11, &port("pixel_values", 1, &[0, 3, 96, 96])),
            // Older graphs list their weights as inputs, too.
            field(11, &port("w", 3, &[100])),
            field(12, &port("image_embeds", 10, &[0, 32])),
        ]
        .concat();
        let opsets =
            [field(8, &number(2, 17)), field(8, &[field(1, b"com.microsoft"), number(2, 1)].concat())];
        // The graph is longer than 127 bytes.
        let length = [graph.len() as u8 | 0x80, (graph.len() >> 7) as u8];
        let model = [opsets.concat(), vec![7 << 3 | 2], length.to_vec(), graph].concat();
        let header = read("whole", &model).unwrap();
        assert_eq!(header.opset, Some(17));
        let [input] = &header.inputs[..] else { panic!("{:?}", header.inputs) };
        assert_eq!((input.name.as_str(), &input.shape[..]), ("pixel_values", &[-1, 3, 96, 96][..]));
        assert!(input.is_float() && header.outputs_have_shapes);
        assert_eq!(
            (header.outputs[0].name.as_str(), &header.outputs[0].shape[..]),
            ("image_embeds", &[-1, 32][..])
        );
        assert_eq!((header.precision(), header.depends_on_batch()), (Some("int8"), true));
        assert_eq!((header.scalar("logit_scale"), header.scalar("scale")), (Some(2.5), None));
        // Cut off anywhere, it is an error or a smaller graph, never a panic.
        for end in 0..model.len() {
            let _ = read("cut", &model[..end]);
        }
        assert!(read("short", &model[..model.len() - 1]).is_err());
    }

    #[test]
    fn a_graph_without_anything_says_nothing() {
        let header = read("empty", b"").unwrap();
        assert_eq!((header.opset, header.precision(), header.depends_on_batch()), (None, None, false));
        assert!(header.inputs.is_empty() && header.outputs.is_empty());
    }
}
