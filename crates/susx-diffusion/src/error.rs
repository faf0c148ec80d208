//! What can go wrong between a prompt and an image.

use susx_core::clip::ClipError;
use susx_core::onnx::{OnnxError, WrapsOnnxError};

/// Every failure of this crate. It is `Clone` because a failed batch is reported to every request in it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The generator's files, its loading, or a run of one of its graphs failed.
    #[error(transparent)]
    Onnx(#[from] OnnxError),

    /// The tokenizer or the safety checker's preprocessing failed.
    #[error(transparent)]
    Clip(ClipError),

    /// This generator cannot generate images with a setting.
    #[error("invalid {name}: {reason}")]
    Setting {
        /// The field of [`Settings`](super::Settings).
        name: &'static str,
        /// What was expected and found.
        reason: String,
    },

    /// The caller cancelled the generation.
    #[error("image generation was cancelled")]
    Cancelled,

    /// The generator's safety checker blocked this image.
    #[error("the generator's safety checker blocked the image")]
    Blocked,

    /// The generated image is unusable.
    #[error("the generator returned no usable image: it has values that are not finite")]
    NotFinite,
}

impl From<ClipError> for GenerateError {
    fn from(error: ClipError) -> Self {
        match error {
            ClipError::Onnx(error) => GenerateError::Onnx(error),
            other => GenerateError::Clip(other),
        }
    }
}

impl WrapsOnnxError for GenerateError {
    fn as_onnx(&self) -> Option<&OnnxError> {
        match self {
            GenerateError::Onnx(error) => Some(error),
            _ => None,
        }
    }
}

/// The result of this crate's functions.
pub type Result<T, E = GenerateError> = std::result::Result<T, E>;
