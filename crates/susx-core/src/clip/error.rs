//! What can go wrong between image bytes or text and an embedding.

use std::path::Path;

use crate::onnx::{OnnxError, WrapsOnnxError};

/// Every failure of this module.
///
/// The variants are the cases that a caller treats differently (for PostgreSQL: its SQLSTATEs); the fields are the
/// values that a message needs. It is `Clone` because a failed batch is reported to every request in it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClipError {
    /// The model's files, its loading, or a run of one of its graphs failed.
    #[error(transparent)]
    Onnx(#[from] OnnxError),

    /// The bytes are of no format that is decoded.
    #[error("expected an image ({}), found {found}", super::IMAGE_FORMATS.join(", "))]
    NotAnImage {
        /// What they are, such as `a PDF document`.
        found: String,
        /// What to do about it: a sentence.
        advice: &'static str,
    },

    /// A library that decodes the image's format is missing, or lacks a part.
    #[error("cannot decode the {format} image: {reason}")]
    NoDecoder {
        /// The format that the first bytes name, such as `HEIC`.
        format: &'static str,
        /// What is missing, in the words of the linker or of the library.
        reason: String,
    },

    /// The image is broken.
    #[error("{}: {reason}", match .format { Some(format) => format!("cannot decode the {format} image"), None => "not an image".to_owned() })]
    Image {
        /// The format that the first bytes name, such as `JPEG`; `None` if they name none.
        format: Option<&'static str>,
        /// What is wrong, for a broken image in the decoder's words.
        reason: String,
    },

    /// The image exceeds a limit. No pixel was decoded.
    #[error("the image has {found} {unit}, the limit is {limit}")]
    ImageTooLarge {
        /// What is counted: `bytes` or `pixels`.
        unit: &'static str,
        /// The limit.
        limit: u64,
        /// What the image has.
        found: u64,
    },

    /// A text cannot be tokenized.
    #[error("cannot tokenize the text: {reason}")]
    Text {
        /// What is wrong, in the tokenizer's words.
        reason: String,
    },

    /// The model lacks the encoder that was asked for.
    #[error("the model {model:?} has no {encoder} encoder")]
    NoEncoder {
        /// The model's name.
        model: String,
        /// `image` or `text`.
        encoder: &'static str,
    },

    /// The model ran, but its output for one input is not a usable embedding.
    #[error("the model returned no usable embedding for input {row}: {reason}")]
    Embedding {
        /// Position of the input in the batch, from 0. The others of the batch may be fine.
        row: usize,
        /// Which rule the embedding breaks.
        reason: &'static str,
    },
}

impl ClipError {
    pub(super) fn file(path: impl AsRef<Path>, reason: impl ToString) -> ClipError {
        OnnxError::file(path, reason).into()
    }

    /// Whether a model's files caused it, rather than ONNX Runtime's library or an execution provider.
    pub fn is_of_files(&self) -> bool {
        !matches!(self, ClipError::Onnx(OnnxError::Runtime { .. } | OnnxError::Provider { .. }))
    }

    pub(crate) fn inference(reason: impl ToString) -> ClipError {
        OnnxError::inference(reason).into()
    }
}

impl WrapsOnnxError for ClipError {
    fn as_onnx(&self) -> Option<&OnnxError> {
        match self {
            ClipError::Onnx(error) => Some(error),
            _ => None,
        }
    }
}

/// The result of this module's functions.
pub type Result<T, E = ClipError> = std::result::Result<T, E>;
