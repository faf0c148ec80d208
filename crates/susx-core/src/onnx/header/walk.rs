//! One pass through an ONNX file.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;

use super::Header;
use super::message::Message;
use super::port::OpenPort;
use super::wire::{Field, Wire, invalid};

/// Limit of nested messages: more than any model has, few enough for the stack.
const MAX_DEPTH: u32 = 64;
/// Limit of all names that are kept, in bytes: several times those of the largest models.
const MAX_NAME_BYTES: usize = 64 << 20;
/// What a name takes in addition to its bytes.
const NAME_OVERHEAD: usize = 64;

/// What was read so far.
pub struct Walk {
    wire: Wire,
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

/// A weight or constant, as far as it was read.
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

impl Walk {
    /// The header of a file of so many bytes.
    pub fn through(file: File, end: u64) -> io::Result<Header> {
        let mut walk = Walk {
            wire: Wire::new(file),
            name_bytes: 0,
            header: Header { outputs_have_shapes: true, ..Header::default() },
            initializers: BTreeSet::new(),
            entry: Default::default(),
            opset: Default::default(),
            port: OpenPort::default(),
            tensor: OpenTensor::default(),
        };
        walk.message(Message::Model, end, 0)?;
        let mut header = walk.header;
        header.inputs.retain(|input| !walk.initializers.contains(&input.name));
        Ok(header)
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
        while self.wire.at() < end {
            let (number, field) = self.wire.field(end)?;
            match field {
                Field::Number(value) => self.number(message, number, value),
                Field::Bytes(length) => {
                    let last = self.wire.at() + length;
                    match message.field(number) {
                        Some(inner) => self.message(inner, last, depth + 1)?,
                        None => self.content(message, number, length, last)?,
                    }
                }
                Field::Skipped => {}
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
            (Message::Entry, 1) => self.entry.0 = self.wire.text(length)?,
            (Message::Entry, 2) => self.entry.1 = self.wire.text(length)?,
            (Message::Opset, 1) => self.opset.0 = self.wire.name(length, last)?,
            (Message::Input | Message::Output, 1) => self.port.name = self.wire.name(length, last)?,
            (Message::Node, 4) => {
                let kind = self.wire.name(length, last)?;
                if !self.header.operations.contains(&kind) {
                    self.keep(&kind)?;
                    self.header.operations.insert(kind);
                }
            }
            // The extents of a tensor in one field.
            (Message::Tensor | Message::Initializer, 1) => {
                while self.wire.at() < last {
                    let extent = self.wire.varint()?;
                    self.tensor.elements = self.tensor.elements.saturating_mul(extent);
                }
            }
            (Message::Initializer, 8) => self.tensor.name = self.wire.name(length, last)?,
            (Message::Initializer, 4 | 9) if length == 4 => {
                self.tensor.value = self.wire.bytes(length)?.try_into().ok();
            }
            _ => self.wire.skip(length, last)?,
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
