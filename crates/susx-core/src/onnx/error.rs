//! What can go wrong between a model's directory and a run of its graphs.

use std::path::{Path, PathBuf};

/// A failure of ONNX Runtime, or of the files of a model.
///
/// The variants are the cases that a caller treats differently (for PostgreSQL: its SQLSTATEs); the fields are the
/// values that a message needs. It is `Clone` because a failed batch is reported to every request in it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The name cannot be a model's name, or there is no such model.
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

    /// The ONNX Runtime library cannot be loaded.
    #[error("cannot load ONNX Runtime from {}: {reason}", path.display())]
    Runtime {
        /// The library that was tried.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The required execution provider cannot be used.
    #[error("cannot use {provider}: {reason}")]
    Provider {
        /// ONNX Runtime's name of the provider, such as `CUDAExecutionProvider`.
        provider: &'static str,
        /// What is wrong, in ONNX Runtime's words.
        reason: String,
    },

    /// The model was loaded but cannot be run on these inputs.
    #[error("inference failed: {reason}")]
    Inference {
        /// What is wrong, usually in ONNX Runtime's words.
        reason: String,
    },
}

impl OnnxError {
    /// A [`ModelFile`](Self::ModelFile) error: the file at `path` is missing, unreadable, or not what it should be.
    pub fn file(path: impl AsRef<Path>, reason: impl ToString) -> OnnxError {
        OnnxError::ModelFile { path: path.as_ref().to_owned(), reason: reason.to_string() }
    }

    /// An [`Inference`](Self::Inference) error.
    pub fn inference(reason: impl ToString) -> OnnxError {
        OnnxError::Inference { reason: reason.to_string() }
    }
}

/// An error type of a model that runs on ONNX Runtime.
pub trait WrapsOnnxError: std::fmt::Display {
    /// The wrapped [`OnnxError`]; `None` for a failure of the model's own code.
    fn as_onnx(&self) -> Option<&OnnxError>;
}

impl WrapsOnnxError for OnnxError {
    fn as_onnx(&self) -> Option<&OnnxError> {
        Some(self)
    }
}

/// ONNX Runtime's message without the position in its source code that some messages begin with:
/// `/onnxruntime_src/….cc:2043 … [ONNXRuntimeError] : 1 : FAIL : Failed to load library …`.
pub(super) fn onnx_message<R>(error: &ort::Error<R>) -> String {
    let message = error.message();
    let inner =
        message.rsplit_once("[ONNXRuntimeError] : ").and_then(|(_, rest)| rest.splitn(3, " : ").nth(2));
    inner.unwrap_or(message).trim().to_owned()
}

/// The result of this module's functions.
pub type Result<T, E = OnnxError> = std::result::Result<T, E>;
