//! What can go wrong between a prompt and a picture.

use crate::clip::ClipError;

/// Every failure of this module. It is `Clone`, because one failed batch has to be reported to every
/// request in it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The generator's files, its loading or a run of one of its graphs: what can befall a CLIP too.
    #[error(transparent)]
    Model(#[from] ClipError),

    /// A setting that this generator cannot paint with.
    #[error("invalid {name}: {reason}")]
    Setting {
        /// The field of [`Settings`](super::Settings).
        name: &'static str,
        /// What was expected and found.
        reason: String,
    },

    /// The caller broke off.
    #[error("painting was cancelled")]
    Cancelled,

    /// The model's safety checker took offence at this picture.
    #[error("the generator's safety checker blocked the picture")]
    Blocked,

    /// What came of this painting is no picture.
    #[error("the generator gave no usable picture: it has values that are not finite")]
    NotFinite,
}

/// The result of this module's functions.
pub type Result<T, E = GenerateError> = std::result::Result<T, E>;
