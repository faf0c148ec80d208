//! The weight files that an ONNX graph names.
//!
//! A graph may keep its tensors in other files ("external data"), under any relative name. They count towards
//! the model's digest and size, and they must not lie outside its directory: otherwise a malicious graph could
//! read any file of the server. ONNX Runtime refuses such names too (tested with 1.32: absolute names, `..`,
//! and symbolic links), but we do not rely on it.
//!
//! An `.onnx` file is one protobuf message. [`Walk`] follows the path from the model to the `external_data`
//! entries of its tensors and skips everything else, so it does not read weights inside the file.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::error::{OnnxError, Result};
use super::model_dir::file_below;

/// The messages of `onnx.proto` on the path to the `external_data` of a tensor.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Function,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
    /// A key and a value of `external_data`.
    Entry,
}

impl Message {
    /// The message in field `number` of this one, if the walk follows it.
    fn field(self, number: u64) -> Option<Message> {
        Some(match (self, number) {
            (Message::Model, 7) => Message::Graph,
            (Message::Model, 25) => Message::Function,
            (Message::Graph, 1) | (Message::Function, 7) => Message::Node,
            (Message::Graph, 5) => Message::Tensor,
            (Message::Graph, 15) => Message::SparseTensor,
            (Message::Node, 5) => Message::Attribute,
            (Message::Attribute, 5 | 10) => Message::Tensor,
            (Message::Attribute, 6 | 11) => Message::Graph,
            (Message::Attribute, 22 | 23) => Message::SparseTensor,
            (Message::SparseTensor, 1 | 2) => Message::Tensor,
            (Message::Tensor, 13) => Message::Entry,
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

/// One pass through an ONNX file.
struct Walk {
    reader: BufReader<File>,
    /// Position in the file.
    at: u64,
    /// Fields seen so far.
    fields: u64,
    locations: BTreeSet<String>,
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not an ONNX file: {reason}"))
}

impl Walk {
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

    fn text(&mut self, length: u64) -> io::Result<String> {
        if length > MAX_TEXT_BYTES {
            return Err(invalid("the name of an external file is too long"));
        }
        let mut bytes = vec![0; length as usize];
        self.reader.read_exact(&mut bytes)?;
        self.at += length;
        String::from_utf8(bytes).map_err(|_| invalid("the name of an external file is not UTF-8"))
    }

    /// Walks through `message`, which ends at position `end` of the file.
    fn message(&mut self, message: Message, end: u64, depth: u32) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(invalid("it is nested too deeply"));
        }
        let (mut key, mut value) = (String::new(), String::new());
        while self.at < end {
            let tag = self.varint()?;
            self.fields += 1;
            if self.fields > MAX_FIELDS {
                return Err(invalid("it has too many fields"));
            }
            match (tag & 7, tag >> 3) {
                (_, 0) => return Err(invalid("a field has the number 0")),
                (0, _) => {
                    self.varint()?;
                }
                (1, _) => self.skip(8, end)?,
                (5, _) => self.skip(4, end)?,
                (2, number) => {
                    let length = self.varint()?;
                    let is_inside = self.at.checked_add(length).is_some_and(|last| last <= end);
                    match (message, number) {
                        _ if !is_inside => return Err(invalid("a field is longer than its message")),
                        (Message::Entry, 1) => key = self.text(length)?,
                        (Message::Entry, 2) => value = self.text(length)?,
                        _ => match message.field(number) {
                            Some(inner) => self.message(inner, self.at + length, depth + 1)?,
                            None => self.skip(length, end)?,
                        },
                    }
                }
                _ => return Err(invalid("a field has an unknown type")),
            }
        }
        if key == "location" {
            self.locations.insert(value);
        }
        Ok(())
    }
}

/// The files with external weights of the graph at `path`. All lie in the graph's folder or below.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: io::Error| OnnxError::file(path, error);
    let file = File::open(path).map_err(failed)?;
    let end = file.metadata().map_err(failed)?.len();
    if end > MAX_GRAPH_BYTES {
        let reason = format!("it has {end} bytes, but an ONNX file has at most {MAX_GRAPH_BYTES}");
        return Err(OnnxError::file(path, reason));
    }
    let mut walk = Walk { reader: BufReader::new(file), at: 0, fields: 0, locations: BTreeSet::new() };
    walk.message(Message::Model, end, 0).map_err(failed)?;

    let folder = path.parent().unwrap_or(Path::new("."));
    let real = folder.canonicalize().map_err(failed)?;
    let mut files = Vec::new();
    for location in walk.locations {
        let refused = |reason: String| OnnxError::file(path, format!("external weights: {reason}"));
        let file = file_below(folder, &location).map_err(refused)?;
        if !file.canonicalize().map_err(failed)?.starts_with(&real) {
            return Err(refused(format!("{location:?} is a link that leads out of the model's directory")));
        }
        files.push(file);
    }
    Ok(files)
}
