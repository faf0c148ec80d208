//! The directory of models: names, and which ONNX files of a model to take.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use super::config::ModelConfig;
use super::error::{ClipError, Result};

/// Whether `name` can be a model's name: the name of a directory directly below the model directory.
///
/// No SQL user can name anything else with it: it has no separator, no `..`, no NUL, and no leading
/// dot, which also keeps the hidden directories of tools out.
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
    Err(ClipError::ModelName { name: name.to_owned(), reason: broken.to_owned() })
}

/// The real path of the model `name`, which must lie directly below `model_dir` also after symbolic
/// links are resolved.
pub(crate) fn resolve(model_dir: &Path, name: &str) -> Result<PathBuf> {
    check_model_name(name)?;
    let parent = model_dir.canonicalize().map_err(|error| ClipError::file(model_dir, error))?;
    let refused = |reason: String| ClipError::ModelName { name: name.to_owned(), reason };
    let dir = match parent.join(name).canonicalize() {
        Ok(dir) if dir.is_dir() => dir,
        Ok(_) => return Err(refused(format!("it is not a directory in {}", parent.display()))),
        // A name may also be too long for any file.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidFilename) => {
            return Err(refused(format!("there is no such directory in {}", parent.display())));
        }
        Err(error) => return Err(ClipError::file(parent.join(name), error)),
    };
    match dir.parent() == Some(&parent) {
        true => Ok(dir),
        false => Err(refused(format!("it is a link to a directory outside {}", parent.display()))),
    }
}

/// The file by which the directory of a generator of pictures is known: it is no CLIP, and beside them.
pub(crate) const GENERATOR_INDEX: &str = "model_index.json";

/// The subdirectories of a directory whose names can be models' names, in order. Those of tools are hidden
/// mostly, and no models.
pub(crate) fn names(model_dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in model_dir.read_dir().map_err(|error| ClipError::file(model_dir, error))? {
        let entry = entry.map_err(|error| ClipError::file(model_dir, error))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if check_model_name(&name).is_ok() && entry.path().is_dir() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The models of a directory by name, each with its configuration or what is wrong with it.
///
/// Every subdirectory counts, except those whose names are no model names (hidden ones, mostly) and the
/// generators ([`list_generators`](crate::sus::diffusion::list_generators)).
pub fn list_models(model_dir: &Path) -> Result<Vec<(String, Result<ModelConfig>)>> {
    Ok(model_names(model_dir)?
        .into_iter()
        .map(|name| {
            let config = ModelConfig::read(model_dir, &name);
            (name, config)
        })
        .collect())
}

/// The names of [`list_models`], for which no file is read.
pub fn model_names(model_dir: &Path) -> Result<Vec<String>> {
    let is_clip = |name: &String| !model_dir.join(name).join(GENERATOR_INDEX).is_file();
    Ok(names(model_dir)?.into_iter().filter(is_clip).collect())
}

/// The ONNX files of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelFiles {
    /// One file for each tower; at least one of them exists.
    Split {
        /// The image encoder.
        vision: Option<PathBuf>,
        /// The text encoder.
        text: Option<PathBuf>,
    },
    /// One file for both towers, or for the one that it turns out to have.
    Fused(PathBuf),
}

/// Endings of an ONNX file's name, the most exact weights first. These are the names that the
/// exports on the Hugging Face hub use.
const VARIANTS: [&str; 9] = ["", "_fp16", "_quantized", "_int8", "_uint8", "_q8", "_q4f16", "_q4", "_bnb4"];

/// Folders of the ONNX files, in order of preference.
const FOLDERS: [&str; 2] = ["onnx", ""];

/// The best file of this stem, such as `onnx/vision_model.onnx`.
fn find(dir: &Path, stem: &str) -> Option<PathBuf> {
    let paths = VARIANTS.iter().flat_map(|variant| {
        FOLDERS.iter().map(move |folder| dir.join(folder).join(format!("{stem}{variant}.onnx")))
    });
    paths.into_iter().find(|path| path.is_file())
}

/// Finds the ONNX files of a model, where `susx.json` does not name them.
pub(crate) fn find_files(dir: &Path, vision: Option<PathBuf>, text: Option<PathBuf>) -> Result<ModelFiles> {
    let vision = vision.or_else(|| find(dir, "vision_model"));
    let text = text.or_else(|| find(dir, "text_model"));
    match (vision, text) {
        (Some(vision), Some(text)) if vision == text => Ok(ModelFiles::Fused(vision)),
        (None, None) => match find(dir, "model") {
            Some(model) => Ok(ModelFiles::Fused(model)),
            None => Err(ClipError::file(
                dir,
                "there is no onnx/vision_model.onnx, onnx/text_model.onnx or onnx/model.onnx",
            )),
        },
        (vision, text) => Ok(ModelFiles::Split { vision, text }),
    }
}

/// The file of this relative name in a model's directory. The name must not lead out of it.
pub(crate) fn file_below(dir: &Path, name: &str) -> Result<PathBuf, String> {
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
