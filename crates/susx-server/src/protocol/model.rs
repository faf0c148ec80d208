//! The description of a model.

use serde::{Deserialize, Serialize};
use susx_core::classifier::PartialParams;

use super::Failure;

/// A model of the model directory. Fields that are known only after loading are `None` before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub name: String,
    /// `clip`, `vision`, `text`, or `diffusion` for a generator.
    pub kind: Option<String>,
    pub dimensions: Option<u32>,
    /// Height and width in pixels of the model's input, or of a generator's images by default.
    pub image_size: Option<(u32, u32)>,
    /// The execution provider in use.
    pub provider: Option<String>,
    pub loaded: bool,
    /// Total size of the model's files, in bytes.
    pub bytes: Option<u64>,
    pub sha256: Option<[u8; 32]>,
    /// Starting values of a new classifier, where the model's files give them.
    pub defaults: PartialParams,
    /// What a SigLIP adds to its scaled cosines, where the model's files give it.
    pub logit_bias: Option<f32>,
    /// Why the model or one of its encoders cannot be used, or why it does not run on the requested provider.
    pub error: Option<String>,
    /// The graph of the image encoder.
    pub vision: Option<EncoderFile>,
    /// The graph of the text encoder.
    pub text: Option<EncoderFile>,
    /// What is worth knowing about a model that works.
    pub note: Option<String>,
    /// Why one of the encoders of a loaded model cannot be used.
    pub broken: Option<Failure>,
}

/// The graph of an encoder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EncoderFile {
    /// Its file, relative to the model's directory.
    pub file: String,
    /// Precision of its weights, such as `fp16`.
    pub precision: Option<String>,
    /// Version of ONNX's operator set.
    pub opset: Option<u32>,
}
