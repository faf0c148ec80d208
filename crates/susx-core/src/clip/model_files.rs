//! Which ONNX files of a model's directory to use.

use std::path::{Path, PathBuf};

use super::error::{ClipError, Result};
use super::layout::{IMMICH_TEXT, IMMICH_VISION, Layout};

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

/// A graph's file, or why it cannot be read although there is something of its name.
type Found = Result<PathBuf, ClipError>;

impl ModelFiles {
    /// Finds the ONNX files in `dir`. `vision` and `text` are the files that `susx.json` names. An encoder whose file
    /// cannot be read is left out, and gives its reason.
    pub(super) fn find(
        dir: &Path,
        layout: Layout,
        vision: Option<PathBuf>,
        text: Option<PathBuf>,
    ) -> Result<(ModelFiles, BrokenEncoders)> {
        let vision = vision.map(Ok).or_else(|| of_layout(dir, layout, "vision_model", IMMICH_VISION));
        let text = text.map(Ok).or_else(|| of_layout(dir, layout, "text_model", IMMICH_TEXT));
        match (vision, text) {
            (Some(Ok(vision)), Some(Ok(text))) if vision == text => {
                Ok((ModelFiles::Fused(vision), BrokenEncoders::default()))
            }
            (None, None) => match best_variant(dir, "model") {
                Some(model) => Ok((ModelFiles::Fused(model?), BrokenEncoders::default())),
                None => Err(ClipError::file(
                    dir,
                    "there is no onnx/vision_model.onnx, onnx/text_model.onnx or onnx/model.onnx",
                )),
            },
            (vision, text) => {
                let (mut files, mut broken) = ((None, None), BrokenEncoders::default());
                keep(vision, &mut files.0, &mut broken.vision);
                keep(text, &mut files.1, &mut broken.text);
                Ok((ModelFiles::Split { vision: files.0, text: files.1 }, broken))
            }
        }
    }

    pub(super) fn graphs(&self) -> Vec<&Path> {
        match self {
            ModelFiles::Split { vision, text } => vision.iter().chain(text).map(PathBuf::as_path).collect(),
            ModelFiles::Fused(path) => vec![path],
        }
    }
}

/// Why encoders cannot be used although there are files for them. What the others embed, works.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BrokenEncoders {
    /// The image encoder.
    pub vision: Option<ClipError>,
    /// The text encoder.
    pub text: Option<ClipError>,
}

impl BrokenEncoders {
    /// The first of the reasons.
    pub fn first(&self) -> Option<&ClipError> {
        self.vision.as_ref().or(self.text.as_ref())
    }
}

/// Stores an encoder, or the reason why there is none.
pub(super) fn keep<T>(found: Option<Result<T>>, encoder: &mut Option<T>, reason: &mut Option<ClipError>) {
    match found {
        Some(Ok(found)) => *encoder = Some(found),
        Some(Err(error)) => {
            *encoder = None;
            reason.get_or_insert(error);
        }
        None => {}
    }
}

fn of_layout(dir: &Path, layout: Layout, stem: &str, of_immich: &str) -> Option<Found> {
    match layout {
        Layout::HuggingFace => best_variant(dir, stem),
        Layout::Immich => existing(dir.join(of_immich)),
    }
}

/// The best file for a stem, such as `onnx/vision_model_fp16.onnx` for `vision_model`. One that cannot be read is named only
/// if there is no other.
fn best_variant(dir: &Path, stem: &str) -> Option<Found> {
    let paths = VARIANTS.iter().flat_map(|variant| {
        FOLDERS.iter().map(move |folder| dir.join(folder).join(format!("{stem}{variant}.onnx")))
    });
    let mut found: Vec<Found> = paths.filter_map(existing).collect();
    let readable = found.iter().position(Result::is_ok).unwrap_or(0);
    (!found.is_empty()).then(|| found.swap_remove(readable))
}

/// The path, if there is anything of this name; an error if it is not a file.
fn existing(path: PathBuf) -> Option<Found> {
    let is_link = path.symlink_metadata().ok()?.is_symlink();
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => Some(Ok(path)),
        Ok(_) => Some(Err(ClipError::file(path, "it is not a regular file"))),
        Err(_) if is_link => Some(Err(ClipError::file(path, "it is a link to nothing"))),
        Err(error) => Some(Err(ClipError::file(path, error))),
    }
}
