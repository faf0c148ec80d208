//! Maps errors of models to the failures that backends receive.

use susx_core::clip::ClipError;
use susx_core::onnx::OnnxError;

use crate::diffusion::GenerateError;
use crate::protocol::{Failure, FailureKind};

impl Failure {
    pub(crate) fn new(kind: FailureKind, message: impl ToString) -> Self {
        Failure { kind, message: message.to_string(), hint: None }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Failure { hint: Some(hint.into()), ..self }
    }
}

impl From<ClipError> for Failure {
    fn from(error: ClipError) -> Self {
        let (kind, hint) = match &error {
            ClipError::Image { .. } => (
                FailureKind::Input,
                Some("The file is damaged, or its format is not supported: see docs/formats.md."),
            ),
            ClipError::NotAnImage { advice, .. } => (FailureKind::Input, Some(*advice)),
            ClipError::NoDecoder { .. } => (
                FailureKind::Input,
                Some(
                    "Install libheif with an HEVC decoder on the database server. Debian and Ubuntu: libheif1 and, if \
                     the release has it, libheif-plugin-libde265. Fedora: libheif-freeworld. Or convert the image to \
                     JPEG.",
                ),
            ),
            ClipError::ImageTooLarge { unit, .. } => (
                FailureKind::TooLarge,
                Some(match *unit {
                    "bytes" => "The limit is the setting susx.max_image_bytes.",
                    _ => "The limit is the setting susx.max_image_pixels.",
                }),
            ),
            ClipError::NoEncoder { .. } => (
                FailureKind::Input,
                Some(
                    "susx.models() has each model's kind: \"clip\" embeds images and texts, \"vision\" only images, \
                     \"text\" only texts.",
                ),
            ),
            ClipError::Text { .. } | ClipError::Embedding { .. } => (FailureKind::Input, None),
            ClipError::Onnx(error) => return Failure::from(error.clone()),
            _ => (FailureKind::Inference, None),
        };
        Failure { kind, message: error.to_string(), hint: hint.map(str::to_owned) }
    }
}

impl From<OnnxError> for Failure {
    fn from(error: OnnxError) -> Self {
        let (kind, hint) = match &error {
            OnnxError::ModelName { .. } => (FailureKind::UnknownModel, None),
            OnnxError::ModelFile { reason, .. } if reason.contains("Permission denied") => (
                FailureKind::Configuration,
                Some(
                    "PostgreSQL's operating system user must be able to read the file and to enter every parent \
                     directory: chmod a+rX.",
                ),
            ),
            OnnxError::ModelFile { .. } => (
                FailureKind::Configuration,
                Some("A model is a directory in susx.model_dir with the Hugging Face ONNX layout."),
            ),
            OnnxError::Runtime { .. } => (
                FailureKind::Configuration,
                Some(
                    "Set susx.onnxruntime_library to the path of libonnxruntime.so (1.24 or newer) \
                     and reload the configuration.",
                ),
            ),
            OnnxError::Provider { .. } => (
                FailureKind::Configuration,
                Some(
                    "Turn susx.require_gpu off to run on the CPU, or set susx.execution_provider. \
                     PostgreSQL's log may say more.",
                ),
            ),
            _ => (FailureKind::Inference, None),
        };
        Failure { kind, message: error.to_string(), hint: hint.map(str::to_owned) }
    }
}

#[cfg(not(feature = "diffusion"))]
impl From<GenerateError> for Failure {
    fn from(error: GenerateError) -> Self {
        Failure::new(FailureKind::Configuration, error)
            .hint("Build susx-server with its feature \"diffusion\", which is on by default.")
    }
}

#[cfg(feature = "diffusion")]
impl From<GenerateError> for Failure {
    fn from(error: GenerateError) -> Self {
        let kind = match error {
            GenerateError::Onnx(error @ OnnxError::ModelFile { .. }) => {
                return Failure::from(error)
                    .hint("A generator is a directory in susx.model_dir with the ONNX layout of diffusers.");
            }
            GenerateError::Onnx(error) => return Failure::from(error),
            GenerateError::Clip(error) => return Failure::from(error),
            GenerateError::Setting { .. } => FailureKind::Parameter,
            GenerateError::Blocked => FailureKind::Blocked,
            GenerateError::NotFinite => FailureKind::Input,
            _ => FailureKind::Inference,
        };
        Failure::new(kind, error)
    }
}
