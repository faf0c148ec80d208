//! Reading a model's small files, which may be missing, huge, or not files at all.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use serde_json::Value;

use super::error::{OnnxError, Result};
use super::python_json;

/// Limit of a configuration file, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// Limit of a tokenizer's file, in bytes. A vocabulary of a quarter of a million words takes about 40 MB.
pub const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// Fails if the file is longer than `max` bytes.
pub(super) fn check_length(path: &Path, max: u64) -> Result<()> {
    match path.metadata().map_err(|error| OnnxError::file(path, error))?.len() {
        length if length > max => Err(too_long(path, length, max)),
        _ => Ok(()),
    }
}

fn too_long(path: &Path, length: u64, max: u64) -> OnnxError {
    OnnxError::file(path, format!("it has {length} bytes: expected at most {max}"))
}

/// The content of a file of at most `max` bytes; `None` if there is no such file. A pipe or a device is an error,
/// because reading it might never end.
pub fn read_if_exists(path: &Path, max: u64) -> Result<Option<Vec<u8>>> {
    let failed = |error: io::Error| OnnxError::file(path, error);
    // Checked before opening, because opening a pipe waits for its other end.
    let length = match path.metadata() {
        Ok(metadata) if !metadata.is_file() => return Err(OnnxError::file(path, "it is not a regular file")),
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if length > max {
        return Err(too_long(path, length, max));
    }
    let mut bytes = Vec::new();
    // The file may grow in the meantime.
    File::open(path).and_then(|file| file.take(max + 1).read_to_end(&mut bytes)).map_err(failed)?;
    match bytes.len() as u64 {
        length if length > max => Err(too_long(path, length, max)),
        _ => Ok(Some(bytes)),
    }
}

/// Like [`read_if_exists`]; a missing file is an error.
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>> {
    read_if_exists(path, max)?.ok_or_else(|| OnnxError::file(path, io::Error::from(ErrorKind::NotFound)))
}

/// The text of a configuration file of at most [`MAX_CONFIG_BYTES`].
pub fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path, MAX_CONFIG_BYTES)?).map_err(|error| OnnxError::file(path, error))
}

/// A JSON file of at most [`MAX_CONFIG_BYTES`]; `None` if there is no such file.
pub fn read_json(path: &Path) -> Result<Option<Value>> {
    let Some(bytes) = read_if_exists(path, MAX_CONFIG_BYTES)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|error| OnnxError::file(path, error))?;
    python_json::parse(&text).map(Some).map_err(|error| OnnxError::file(path, error))
}
