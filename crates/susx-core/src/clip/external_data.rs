//! The weight files that an ONNX graph names.
//!
//! A graph may keep its tensors in other files ("external data"), under any relative name. They belong to
//! the model's identity and size, and they must not lead out of its directory: a graph that somebody was
//! talked into installing could otherwise read any file of the server. ONNX Runtime refuses that too
//! (tried with 1.32: absolute names, `..`, and symbolic links); we do not rely on it.
//!
//! An `.onnx` file is one protobuf message. This walks through it and skips everything but the path from
//! the model to the `external_data` entries of its tensors, so weights inside the file are not read.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::error::{ClipError, Result};
use super::model_dir::file_below;

/// The messages of `onnx.proto` on the way to a tensor.
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
    /// The message that is in field `number` of this one, if it is one that we follow.
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

/// Graphs inside graphs inside graphs: more than any model has, less than the stack holds.
const DEEPEST: u32 = 64;
/// The largest graph: protobuf allows no longer message, and ONNX Runtime reads none. Weights beyond that are in
/// other files.
const LARGEST: u64 = 2 << 30;
/// More fields than the graph of any model has, and a fraction of a second to walk through.
const MOST_FIELDS: u64 = 20_000_000;
/// The longest key or value that is read.
const LONGEST: u64 = 4096;

struct Walk {
    reader: BufReader<File>,
    at: u64,
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
        // A file is shorter than 2^63 bytes, and so is what fits into it.
        self.reader.seek_relative(length as i64)?;
        self.at += length;
        Ok(())
    }

    fn text(&mut self, length: u64) -> io::Result<String> {
        if length > LONGEST {
            return Err(invalid("the name of an external file is too long"));
        }
        let mut bytes = vec![0; length as usize];
        self.reader.read_exact(&mut bytes)?;
        self.at += length;
        String::from_utf8(bytes).map_err(|_| invalid("the name of an external file is not UTF-8"))
    }

    /// Walks through `message`, which ends at the position `end` of the file.
    fn message(&mut self, message: Message, end: u64, depth: u32) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(invalid("it is nested too deeply"));
        }
        let (mut key, mut value) = (String::new(), String::new());
        while self.at < end {
            let tag = self.varint()?;
            self.fields += 1;
            if self.fields > MOST_FIELDS {
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

/// The files that hold weights of the graph at `path`, which are all in its folder or below.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: io::Error| ClipError::file(path, error);
    let file = File::open(path).map_err(failed)?;
    let end = file.metadata().map_err(failed)?.len();
    if end > LARGEST {
        let reason = format!("it has {end} bytes, but an ONNX file has at most {LARGEST}");
        return Err(ClipError::file(path, reason));
    }
    let mut walk = Walk { reader: BufReader::new(file), at: 0, fields: 0, locations: BTreeSet::new() };
    walk.message(Message::Model, end, 0).map_err(failed)?;

    let folder = path.parent().unwrap_or(Path::new("."));
    let real = folder.canonicalize().map_err(failed)?;
    let mut files = Vec::new();
    for location in walk.locations {
        let refused = |reason: String| ClipError::file(path, format!("external weights: {reason}"));
        let file = file_below(folder, &location).map_err(refused)?;
        if !file.canonicalize().map_err(failed)?.starts_with(&real) {
            return Err(refused(format!("{location:?} is a link that leads out of the model's directory")));
        }
        files.push(file);
    }
    Ok(files)
}
