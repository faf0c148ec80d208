//! Why something has failed.

use serde::{Deserialize, Serialize};

use crate::limits;

/// Why a request or an input has failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
    pub hint: Option<String>,
}

/// Cause of a failure; the extension maps each to an SQLSTATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// An image or text that cannot be embedded.
    Input,
    /// An image or text that exceeds a limit.
    TooLarge,
    /// There is no such model.
    UnknownModel,
    /// The model exists but is of another kind.
    WrongModel,
    /// A parameter of an image request is invalid.
    Parameter,
    /// The generator's safety checker blocked the image.
    Blocked,
    /// A setting or a model's files must be corrected.
    Configuration,
    /// The model or the machine failed.
    Inference,
    /// The other side violated the protocol.
    Protocol,
    /// The input crashes the inference process. Found by the backend; a server never sends it.
    ServerDied,
}

impl FailureKind {
    /// Whether the input itself caused the failure, so that other inputs of the batch may still succeed.
    pub const fn is_of_input(self) -> bool {
        match self {
            FailureKind::Input | FailureKind::TooLarge | FailureKind::Blocked | FailureKind::ServerDied => {
                true
            }
            FailureKind::UnknownModel
            | FailureKind::WrongModel
            | FailureKind::Parameter
            | FailureKind::Configuration
            | FailureKind::Inference
            | FailureKind::Protocol => false,
        }
    }
}

/// The failure for a text or image of `found` bytes that exceeds the limit of a setting.
pub fn too_large(what: &str, found: usize, limit: usize, setting: &str) -> Failure {
    Failure {
        kind: FailureKind::TooLarge,
        message: format!("the {what} has {found} bytes, the limit is {limit}"),
        hint: Some(format!("The limit is the setting {setting}.")),
    }
}

/// The failure for a model name of `found` bytes, which is too long.
pub fn model_name_too_long(found: usize) -> Failure {
    let limit = limits::MAX_NAME_BYTES;
    let message = format!("the name of the model has {found} bytes, the limit is {limit}");
    Failure { kind: FailureKind::UnknownModel, message, hint: None }
}
