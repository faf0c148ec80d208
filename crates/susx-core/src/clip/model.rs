//! A loaded CLIP model: its two encoders, and the truth about where they run.

use ndarray::{Array2, ArrayView4};

use super::config::{ModelConfig, ModelKind};
use super::encoders::{Encoders, normalise};
use super::error::{ClipError, Result};
use super::preprocess::Preprocessor;
use super::provider::{Candidate, SessionOptions};
use super::runtime::OnnxRuntime;
use super::tokenizer::{ClipTokenizer, TokenBatch};

/// A CLIP model, loaded and probed. All methods take `&self`; runs of one graph wait for each other.
///
/// Where both encoders are in one file, ONNX Runtime runs both of them each time: a batch of images
/// costs an empty text besides, and a batch of texts a blank image. Split files are faster.
pub struct ClipModel {
    config: ModelConfig,
    sha256: [u8; 32],
    bytes: u64,
    encoders: Encoders,
    dimensions: usize,
    provider: &'static str,
    fallback_reason: Option<String>,
}

impl ClipModel {
    /// Loads the model and runs each encoder once.
    ///
    /// The execution providers of `options` are tried in order: one counts only if ONNX Runtime
    /// registers it, loads every graph with it and the probe run succeeds. What was passed over is in
    /// [`fallback_reason`](Self::fallback_reason). Single operations that the provider does not know
    /// run on the CPU; ONNX Runtime does not report them.
    pub fn load(runtime: &OnnxRuntime, config: ModelConfig, options: &SessionOptions) -> Result<ClipModel> {
        let sha256 = config.sha256()?;
        let bytes = config.bytes()?;
        let mut failures: Vec<String> = Vec::new();
        let mut last = ClipError::Provider {
            provider: Candidate::Cpu.name(),
            reason: "a GPU is required, but the execution provider is cpu".into(),
        };
        for candidate in options.candidates() {
            match Encoders::load(runtime, &config, options, candidate)
                .and_then(|encoders| Ok((encoders.probe(&config)?, encoders)))
            {
                Ok((dimensions, encoders)) => {
                    let fallback_reason = (!failures.is_empty()).then(|| failures.join("; "));
                    return Ok(ClipModel {
                        config,
                        sha256,
                        bytes,
                        encoders,
                        dimensions,
                        provider: candidate.name(),
                        fallback_reason,
                    });
                }
                Err(error) => {
                    // A model that no provider can run is the model's fault: the CPU's error tells it.
                    let reason = match &error {
                        ClipError::Provider { reason, .. } => reason.clone(),
                        other => other.to_string(),
                    };
                    failures.push(format!("{}: {reason}", candidate.name()));
                    last = match candidate {
                        Candidate::Cpu => error,
                        _ => ClipError::Provider { provider: candidate.name(), reason },
                    };
                }
            }
        }
        Err(last)
    }

    /// The model's directory, as it was read.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Name of the model.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The encoders that it really has.
    pub fn kind(&self) -> ModelKind {
        match (&self.encoders.image, &self.encoders.text) {
            (Some(_), None) => ModelKind::Vision,
            (None, Some(_)) => ModelKind::Text,
            _ => ModelKind::Clip,
        }
    }

    /// Length of an embedding.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Digest of the model's files, taken when it was loaded.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// Size of the graphs and weights on disk, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How to turn a picture into the image encoder's input; `None` for a text model.
    pub fn preprocessor(&self) -> Option<&Preprocessor> {
        self.encoders.image.as_ref().and(self.config.preprocessor.as_ref())
    }

    /// How to turn a text into the text encoder's input; `None` for an image model.
    pub fn tokenizer(&self) -> Option<&ClipTokenizer> {
        self.encoders.text.as_ref().and(self.encoders.tokenizer.as_ref())
    }

    /// The execution provider that the model runs on, by ONNX Runtime's name.
    pub fn provider(&self) -> &'static str {
        self.provider
    }

    /// Why the providers that come before this one are not used; `None` if this is the first choice.
    pub fn fallback_reason(&self) -> Option<&str> {
        self.fallback_reason.as_deref()
    }

    /// Embeds preprocessed images: N × 3 × H × W in, N × [`dimensions`](Self::dimensions) out, each
    /// row of length 1.
    pub fn image_features(&self, pixel_values: ArrayView4<f32>) -> Result<Array2<f32>> {
        let preprocessor = self.preprocessor().ok_or_else(|| self.no_tower("image"))?;
        let (n, channels, height, width) = pixel_values.dim();
        if (channels, height, width) != preprocessor.shape() {
            return Err(ClipError::inference(format!(
                "the images have shape {:?}, expected {:?}",
                (channels, height, width),
                preprocessor.shape()
            )));
        }
        if n == 0 {
            return Ok(Array2::zeros((0, self.dimensions)));
        }
        let features = self.encoders.image_features(pixel_values)?;
        self.normalised(features, n)
    }

    /// Embeds tokenized texts: N × sequence length in, N × [`dimensions`](Self::dimensions) out, each
    /// row of length 1.
    pub fn text_features(&self, tokens: &TokenBatch) -> Result<Array2<f32>> {
        if self.encoders.text.is_none() {
            return Err(self.no_tower("text"));
        }
        if tokens.input_ids.nrows() == 0 {
            return Ok(Array2::zeros((0, self.dimensions)));
        }
        let features = self.encoders.text_features(tokens, self.config.preprocessor.as_ref())?;
        self.normalised(features, tokens.input_ids.nrows())
    }

    fn no_tower(&self, tower: &'static str) -> ClipError {
        ClipError::NoTower { model: self.config.name.clone(), tower }
    }

    fn normalised(&self, features: Array2<f32>, rows: usize) -> Result<Array2<f32>> {
        if features.dim() != (rows, self.dimensions) {
            return Err(ClipError::inference(format!(
                "the model gave {:?} values, expected {:?}",
                features.dim(),
                (rows, self.dimensions)
            )));
        }
        normalise(features)
    }
}
