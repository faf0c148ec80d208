//! The directory of models: valid names, and the paths that they stand for.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use super::error::{OnnxError, Result};

/// Checks that `name` can be a model's name: the name of a directory directly below the model directory.
///
/// A valid name has no separator, no `..`, no NUL, and no leading dot, so no SQL user can name anything outside the
/// model directory, nor the hidden directories of tools. The error is [`OnnxError::ModelName`].
pub fn check_model_name(name: &str) -> Result<()> {
    let broken = if name.is_empty() {
        "it is empty"
    } else if name.contains('/') || name.contains('\\') {
        "it contains a path separator"
    } else if name.contains("..") {
        "it contains \"..\""
    } else if name.starts_with('.') {
        "it begins with a dot"
    } else if name.contains('\0') {
        "it contains a NUL character"
    } else {
        return Ok(());
    };
    Err(OnnxError::ModelName { name: name.to_owned(), reason: broken.to_owned() })
}

/// The real path of the model `name`. It must lie directly below `model_dir` even after symbolic links are resolved.
pub fn resolve(model_dir: &Path, name: &str) -> Result<PathBuf> {
    check_model_name(name)?;
    let parent = model_dir.canonicalize().map_err(|error| OnnxError::file(model_dir, error))?;
    let refused = |reason: String| OnnxError::ModelName { name: name.to_owned(), reason };
    let dir = match parent.join(name).canonicalize() {
        Ok(dir) if dir.is_dir() => dir,
        Ok(_) => return Err(refused(format!("it is not a directory in {}", parent.display()))),
        // A valid name may still be too long for the file system.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidFilename) => {
            return Err(refused(format!("there is no such directory in {}", parent.display())));
        }
        Err(error) => return Err(OnnxError::file(parent.join(name), error)),
    };
    match dir.parent() == Some(&parent) {
        true => Ok(dir),
        false => Err(refused(format!("it is a link to a directory outside {}", parent.display()))),
    }
}

/// The subdirectories with valid model names, sorted.
pub fn names(model_dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in model_dir.read_dir().map_err(|error| OnnxError::file(model_dir, error))? {
        let entry = entry.map_err(|error| OnnxError::file(model_dir, error))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if check_model_name(&name).is_ok() && entry.path().is_dir() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The file that identifies the directory of an image generator: the index of a `diffusers` pipeline.
pub const GENERATOR_INDEX: &str = "model_index.json";

/// Whether the directory `name` of `model_dir` is an image generator, valid or not: it has a [`GENERATOR_INDEX`].
pub fn is_generator(model_dir: &Path, name: &str) -> bool {
    check_model_name(name).is_ok() && model_dir.join(name).join(GENERATOR_INDEX).is_file()
}

/// The names of the image generators in `model_dir`, sorted. Reads no file.
pub fn generator_names(model_dir: &Path) -> Result<Vec<String>> {
    Ok(names(model_dir)?.into_iter().filter(|name| is_generator(model_dir, name)).collect())
}

/// The path of the file `name` in the model's directory `dir`. The name must be relative and must not lead out of the
/// directory. The error is a sentence.
pub fn file_below(dir: &Path, name: &str) -> Result<PathBuf, String> {
    let relative = Path::new(name);
    let plain = relative.components().all(|component| matches!(component, Component::Normal(_)));
    if name.is_empty() || !plain || name.contains('\0') || name.contains('\\') {
        return Err(format!("{name:?} is not a file name below the model's directory"));
    }
    let path = dir.join(relative);
    match path.is_file() {
        true => Ok(path),
        false => Err(format!("there is no file {name:?}")),
    }
}
