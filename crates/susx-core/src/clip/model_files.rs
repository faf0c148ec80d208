//! Which ONNX files of a model's directory to use.

use std::path::{Path, PathBuf};

use super::error::{ClipError, Result};

/// The ONNX files of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelFiles {
    /// One file for each encoder; at least one of them exists.
    Split {
        /// The image encoder.
        vision: Option<PathBuf>,
        /// The text encoder.
        text: Option<PathBuf>,
    },
    /// One file for both encoders, or for a single one. Only the graph shows which.
    Fused(PathBuf),
}

/// Suffixes of an ONNX file's name, the most exact weights first. These are the names that the
/// exports on the Hugging Face hub use.
const VARIANTS: [&str; 9] = ["", "_fp16", "_quantized", "_int8", "_uint8", "_q8", "_q4f16", "_q4", "_bnb4"];

/// Folders of the ONNX files, in order of preference.
const FOLDERS: [&str; 2] = ["onnx", ""];

impl ModelFiles {
    /// Finds the ONNX files in `dir`. `vision` and `text` are the files that `susx.json` names.
    pub(super) fn find(dir: &Path, vision: Option<PathBuf>, text: Option<PathBuf>) -> Result<ModelFiles> {
        let vision = vision.or_else(|| best_variant(dir, "vision_model"));
        let text = text.or_else(|| best_variant(dir, "text_model"));
        match (vision, text) {
            (Some(vision), Some(text)) if vision == text => Ok(ModelFiles::Fused(vision)),
            (None, None) => match best_variant(dir, "model") {
                Some(model) => Ok(ModelFiles::Fused(model)),
                None => Err(ClipError::file(
                    dir,
                    "there is no onnx/vision_model.onnx, onnx/text_model.onnx or onnx/model.onnx",
                )),
            },
            (vision, text) => Ok(ModelFiles::Split { vision, text }),
        }
    }

    pub(super) fn graphs(&self) -> Vec<&Path> {
        match self {
            ModelFiles::Split { vision, text } => vision.iter().chain(text).map(PathBuf::as_path).collect(),
            ModelFiles::Fused(path) => vec![path],
        }
    }
}

/// The best file for a stem, such as `onnx/vision_model_fp16.onnx` for `vision_model`.
fn best_variant(dir: &Path, stem: &str) -> Option<PathBuf> {
    let paths = VARIANTS.iter().flat_map(|variant| {
        FOLDERS.iter().map(move |folder| dir.join(folder).join(format!("{stem}{variant}.onnx")))
    });
    paths.into_iter().find(|path| path.is_file())
}
