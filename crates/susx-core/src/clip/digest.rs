//! The identity of a model: SHA-256 of the files that its embeddings depend on.
//!
//! The digest covers, in the order of their names: the ONNX files that are used, the files of external
//! weights that they name, `config.json`, `preprocessor_config.json`, `special_tokens_map.json`,
//! `tokenizer.json` and `tokenizer_config.json`. For each file it takes the length of its name and the name relative to
//! the model's directory, then the length of its content and the content; lengths are 64-bit
//! little-endian. At the end comes the context length in the same form, because `susx.json` can
//! change it. The rest of `susx.json` changes classifiers, not embeddings, and stays outside.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::config::ModelConfig;
use super::error::{ClipError, Result};
use super::external_data;
use super::model_dir::ModelFiles;
use super::read;

const CONFIGURATION: [&str; 5] = [
    "config.json",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// Size of the graphs and their weights, in bytes.
pub(super) fn bytes(config: &ModelConfig) -> Result<u64> {
    size(&config.dir, &graphs(config))
}

/// The digest that the module's documentation describes.
pub(super) fn sha256(config: &ModelConfig) -> Result<[u8; 32]> {
    let mut hasher = hash(&config.dir, &graphs(config), &CONFIGURATION)?;
    hasher.update((config.context_length as u64).to_le_bytes());
    Ok(hasher.finalize().into())
}

fn graphs(config: &ModelConfig) -> Vec<&Path> {
    match &config.files {
        ModelFiles::Split { vision, text } => vision.iter().chain(text).map(PathBuf::as_path).collect(),
        ModelFiles::Fused(path) => vec![path],
    }
}

/// Size of these graphs of the directory `dir` and of their external weights, in bytes.
pub(crate) fn size(dir: &Path, graphs: &[&Path]) -> Result<u64> {
    let mut bytes = 0;
    for path in weights(dir, graphs)?.into_values() {
        bytes += path.metadata().map_err(|error| ClipError::file(&path, error))?.len();
    }
    Ok(bytes)
}

/// Hashes these graphs of the directory `dir`, their external weights, and those of the files of
/// `configuration` that there are: all in the order of their names, in the form that the module's
/// documentation describes.
pub(crate) fn hash(dir: &Path, graphs: &[&Path], configuration: &[&str]) -> Result<Sha256> {
    let mut files = weights(dir, graphs)?;
    for name in configuration {
        let path = dir.join(name);
        if path.is_file() {
            read::check_length(&path, read::LARGEST_CONFIGURATION)?;
            files.insert((*name).to_owned(), path);
        }
    }
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    for (name, path) in files {
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        let failed = |error| ClipError::file(&path, error);
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
    Ok(hasher)
}

/// What tells without reading a file whether it is still the one it was: its length, and when it was changed
/// last. `None` where it cannot be seen.
pub(super) type Stamp = (PathBuf, Option<(u64, SystemTime)>);

/// The stamps of the files of the digest, and those of configuration that are not there.
pub(super) fn stamps(config: &ModelConfig) -> Result<Vec<Stamp>> {
    let configuration = CONFIGURATION.iter().map(|name| config.dir.join(name));
    Ok(weights(&config.dir, &graphs(config))?.into_values().chain(configuration).map(stamp).collect())
}

/// Whether any of these files is another one now.
pub(super) fn have_changed(stamps: &[Stamp]) -> bool {
    stamps.iter().any(|before| stamp(before.0.clone()) != *before)
}

fn stamp(path: PathBuf) -> Stamp {
    let seen = path.metadata().ok().and_then(|metadata| Some((metadata.len(), metadata.modified().ok()?)));
    (path, seen)
}

/// The ONNX files and their external weights, by their names relative to the directory.
fn weights(dir: &Path, graphs: &[&Path]) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for graph in graphs {
        for path in external_data::files(graph)?.into_iter().chain([graph.to_path_buf()]) {
            files.insert(relative(dir, &path), path);
        }
    }
    Ok(files)
}

/// The name below the model's directory, with `/` as the separator.
fn relative(dir: &Path, path: &Path) -> String {
    let name = path.strip_prefix(dir).unwrap_or(path);
    name.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}
