//! What can go wrong between image bytes or text and an embedding.

use std::path::{Path, PathBuf};

/// Every failure of this module.
///
/// The variants are the cases that a caller treats differently (for PostgreSQL: its SQLSTATEs), the
/// fields are the values that a message needs. It is `Clone`, because one failed batch has to be
/// reported to every request in it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClipError {
    /// The bytes are no image that we can decode: empty, an unknown or unsupported format, or broken.
    #[error("{}: {reason}", match .format { Some(format) => format!("cannot decode the {format} image"), None => "not an image".to_owned() })]
    Image {
        /// The format that the first bytes name, such as `JPEG`; `None` if they name none.
        format: Option<&'static str>,
        /// What is wrong, for a broken image in the decoder's words.
        reason: String,
    },

    /// The image exceeds a limit. Found before any pixel was decoded.
    #[error("the image has {found} {unit}, the limit is {limit}")]
    ImageTooLarge {
        /// What is counted: `bytes` or `pixels`.
        unit: &'static str,
        /// The most that is allowed.
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

    /// A name that cannot be a model's name, or no such model.
    #[error("invalid model name {name:?}: {reason}")]
    ModelName {
        /// The name as it was given.
        name: String,
        /// Which rule it breaks.
        reason: String,
    },

    /// A file of a model is missing, unreadable, or not what it should be.
    #[error("{}: {reason}", path.display())]
    ModelFile {
        /// The file, or the model's directory where a file is missing.
        path: PathBuf,
        /// What is wrong; where two values disagree it holds both.
        reason: String,
    },

    /// The model lacks the tower that was asked for.
    #[error("the model {model:?} has no {tower} encoder")]
    NoTower {
        /// The model's name.
        model: String,
        /// `image` or `text`.
        tower: &'static str,
    },

    /// The ONNX Runtime library cannot be loaded.
    #[error("cannot load ONNX Runtime from {}: {reason}", path.display())]
    Runtime {
        /// The library that was tried.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The execution provider that was required cannot be used.
    #[error("cannot use {provider}: {reason}")]
    Provider {
        /// ONNX Runtime's name of the provider, such as `CUDAExecutionProvider`.
        provider: &'static str,
        /// What is wrong, in ONNX Runtime's words.
        reason: String,
    },

    /// The model was loaded but could not be run on these inputs.
    #[error("inference failed: {reason}")]
    Inference {
        /// What is wrong, usually in ONNX Runtime's words.
        reason: String,
    },

    /// The model ran, but what it made of one input is no embedding.
    #[error("the model gave no usable embedding for input {row}: {reason}")]
    Embedding {
        /// Position of the input in the batch, from 0. The others of the batch may be fine.
        row: usize,
        /// Which rule the embedding breaks.
        reason: &'static str,
    },
}

impl ClipError {
    /// A file that is missing, unreadable or not what it should be.
    pub(crate) fn file(path: impl AsRef<Path>, reason: impl ToString) -> ClipError {
        ClipError::ModelFile { path: path.as_ref().to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn inference(reason: impl ToString) -> ClipError {
        ClipError::Inference { reason: reason.to_string() }
    }
}

/// ONNX Runtime's message without the place in its source, which some messages begin with:
/// `/onnxruntime_src/….cc:2043 … [ONNXRuntimeError] : 1 : FAIL : Failed to load library …`.
pub(crate) fn onnx_message<R>(error: &ort::Error<R>) -> String {
    let message = error.message();
    let inner =
        message.rsplit_once("[ONNXRuntimeError] : ").and_then(|(_, rest)| rest.splitn(3, " : ").nth(2));
    inner.unwrap_or(message).trim().to_owned()
}

/// The result of this module's functions.
pub type Result<T, E = ClipError> = std::result::Result<T, E>;
