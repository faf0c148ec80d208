//! Protobuf's wire format: numbers, and fields of bytes.

use std::fs::File;
use std::io::{self, BufReader, Read};

/// Limit of fields: more than the graph of any model has, and walked through in a fraction of a second.
const MAX_FIELDS: u64 = 20_000_000;
/// Limit of a key or value, in bytes.
const MAX_TEXT_BYTES: u64 = 4096;

/// The file is no ONNX file.
pub fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not an ONNX file: {reason}"))
}

/// What a field holds.
pub enum Field {
    /// A number.
    Number(u64),
    /// Bytes: a message, a text, or several numbers. They come next, and this is how many there are.
    Bytes(u64),
    /// A number of fixed length, which was skipped.
    Skipped,
}

/// A file, and the position in it.
pub struct Wire {
    reader: BufReader<File>,
    at: u64,
    /// Fields seen so far.
    fields: u64,
}

impl Wire {
    /// From the start of the file on.
    pub fn new(file: File) -> Self {
        Wire { reader: BufReader::new(file), at: 0, fields: 0 }
    }

    /// Position in the file.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// The number of the next field of a message that ends at position `end`, and what it holds.
    pub fn field(&mut self, end: u64) -> io::Result<(u64, Field)> {
        let tag = self.varint()?;
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            return Err(invalid("it has too many fields"));
        }
        let number = tag >> 3;
        if number == 0 {
            return Err(invalid("a field has the number 0"));
        }
        let field = match tag & 7 {
            0 => Field::Number(self.varint()?),
            1 => self.skip(8, end).map(|()| Field::Skipped)?,
            5 => self.skip(4, end).map(|()| Field::Skipped)?,
            2 => {
                let length = self.varint()?;
                if length > end.saturating_sub(self.at) {
                    return Err(too_long());
                }
                Field::Bytes(length)
            }
            _ => return Err(invalid("a field has an unknown type")),
        };
        Ok((number, field))
    }

    /// A number of up to ten bytes.
    pub fn varint(&mut self) -> io::Result<u64> {
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

    /// Skips bytes of a message that ends at position `end`.
    pub fn skip(&mut self, length: u64, end: u64) -> io::Result<()> {
        if length > end.saturating_sub(self.at) {
            return Err(too_long());
        }
        // `length` is less than the length of the file, so it fits into an i64.
        self.reader.seek_relative(length as i64)?;
        self.at += length;
        Ok(())
    }

    /// So many bytes, which must be few.
    pub fn bytes(&mut self, length: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length as usize];
        self.reader.read_exact(&mut bytes)?;
        self.at += length;
        Ok(bytes)
    }

    /// A key or value of so many bytes.
    pub fn text(&mut self, length: u64) -> io::Result<String> {
        if length > MAX_TEXT_BYTES {
            return Err(invalid("the name of an external file is too long"));
        }
        String::from_utf8(self.bytes(length)?)
            .map_err(|_| invalid("the name of an external file is not UTF-8"))
    }

    /// A name of so many bytes. One that is too long is none that is looked for.
    pub fn name(&mut self, length: u64, end: u64) -> io::Result<String> {
        if length > MAX_TEXT_BYTES {
            self.skip(length, end)?;
            return Ok(String::new());
        }
        Ok(String::from_utf8_lossy(&self.bytes(length)?).into_owned())
    }
}

fn too_long() -> io::Error {
    invalid("a field is longer than its message")
}
