//! Files of a model, of which nobody knows beforehand that they are what they should be.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use super::error::{ClipError, Result};

/// The largest configuration that is read.
pub(crate) const CONFIGURATION_BYTES: u64 = 16 << 20;

/// The largest file of a model that is no graph and has no weights: a tokenizer. Those with a quarter of a million words
/// have some 40 MB.
pub(crate) const LARGEST_CONFIGURATION: u64 = 256 << 20;

/// An error for a longer file.
pub(crate) fn check_length(path: &Path, most: u64) -> Result<()> {
    match path.metadata().map_err(|error| ClipError::file(path, error))?.len() {
        length if length > most => Err(too_long(path, length, most)),
        _ => Ok(()),
    }
}

fn too_long(path: &Path, length: u64, most: u64) -> ClipError {
    ClipError::file(path, format!("it has {length} bytes: expected at most {most}"))
}

/// The content of a file of at most so many bytes. A pipe or a device is an error: it might never end.
pub(crate) fn file(path: &Path, most: u64) -> Result<Vec<u8>> {
    found(path, most)?.ok_or_else(|| ClipError::file(path, io::Error::from(ErrorKind::NotFound)))
}

/// The same; `None` if there is no such file.
pub(crate) fn found(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    let failed = |error: io::Error| ClipError::file(path, error);
    // Looked at before it is opened: that alone would wait for the other end of a pipe.
    let length = match path.metadata() {
        Ok(metadata) if !metadata.is_file() => return Err(ClipError::file(path, "it is not a regular file")),
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if length > most {
        return Err(too_long(path, length, most));
    }
    let mut bytes = Vec::new();
    // It may grow meanwhile.
    File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).map_err(failed)?;
    match bytes.len() as u64 {
        length if length > most => Err(too_long(path, length, most)),
        _ => Ok(Some(bytes)),
    }
}

/// The same, as text.
pub(crate) fn text(path: &Path, most: u64) -> Result<String> {
    String::from_utf8(file(path, most)?).map_err(|error| ClipError::file(path, error))
}
