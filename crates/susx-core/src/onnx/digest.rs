//! The files that identify a model: their size, their SHA-256, and whether they have changed.
//!
//! The digest covers the ONNX files in use, the files of external weights that they name, and the configuration files
//! that the kind of model lists, in the order of their names. For each file it takes the length of its name and the
//! name relative to the model's directory, then the length of its content and the content. Lengths are 64-bit
//! little-endian.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::error::{OnnxError, Result};
use super::files;
use super::header::Header;

/// Total size of `graphs` in the directory `dir` and of their external weights, in bytes.
pub fn size(dir: &Path, graphs: &[&Path]) -> Result<u64> {
    let mut bytes = 0;
    for path in weights(dir, graphs)?.into_values() {
        bytes += path.metadata().map_err(|error| OnnxError::file(&path, error))?.len();
    }
    Ok(bytes)
}

/// SHA-256 of `graphs` in the directory `dir`, their external weights, and the files of `configuration` that exist,
/// in the form that the module's documentation describes; then of `extra`. Reads all of these files once.
pub fn sha256(dir: &Path, graphs: &[&Path], configuration: &[&str], extra: &[u8]) -> Result<[u8; 32]> {
    let mut files = weights(dir, graphs)?;
    for name in configuration {
        let path = dir.join(name);
        if path.is_file() {
            files::check_length(&path, files::MAX_TOKENIZER_BYTES)?;
            files.insert((*name).to_owned(), path);
        }
    }
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    for (name, path) in files {
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        let failed = |error| OnnxError::file(&path, error);
        let mut file = File::open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        hasher.update(length.to_le_bytes());
        loop {
            match file.read(&mut buffer).map_err(failed)? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            }
        }
    }
    hasher.update(extra);
    Ok(hasher.finalize().into())
}

/// Length and modification time of each file of a model, to detect changes without reading the files.
#[derive(Clone, Debug)]
pub struct FileTimes(Vec<(PathBuf, Option<(u64, SystemTime)>)>);

impl FileTimes {
    /// The current state of the files that [`sha256`] would read, and of those of `configuration` that do not exist.
    pub fn of(dir: &Path, graphs: &[&Path], configuration: &[&str]) -> Result<FileTimes> {
        let configuration = configuration.iter().map(|name| dir.join(name));
        let paths = weights(dir, graphs)?.into_values().chain(configuration);
        Ok(FileTimes(paths.map(|path| (path.clone(), length_and_time(&path))).collect()))
    }

    /// Whether any of the files has changed, appeared or disappeared since.
    pub fn have_changed(&self) -> bool {
        self.0.iter().any(|(path, before)| length_and_time(path) != *before)
    }
}

/// `None` if the file cannot be inspected.
fn length_and_time(path: &Path) -> Option<(u64, SystemTime)> {
    let metadata = path.metadata().ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

/// The ONNX files and their external weights, by their names relative to the directory.
fn weights(dir: &Path, graphs: &[&Path]) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for graph in graphs {
        for path in Header::read(graph)?.weight_files(graph)?.into_iter().chain([graph.to_path_buf()]) {
            files.insert(relative(dir, &path), path);
        }
    }
    Ok(files)
}

/// The name relative to the model's directory, with `/` as the separator.
fn relative(dir: &Path, path: &Path) -> String {
    let name = path.strip_prefix(dir).unwrap_or(path);
    name.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}
