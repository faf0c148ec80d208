//! A loaded CLIP model: its two encoders, and the truth about where they run.

use ndarray::{Array2, ArrayView4};

use super::capacity;
use super::choice::{Elsewhere, choose};
use super::config::{ModelConfig, ModelKind};
use super::digest::{self, Stamp};
use super::encoders::{Encoders, normalise};
use super::error::{ClipError, Result};
use super::preprocess::Preprocessor;
use super::profile::ProfileFolder;
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
    stamps: Vec<Stamp>,
    bytes: u64,
    encoders: Encoders,
    dimensions: usize,
    provider: &'static str,
    fallback_reason: Option<String>,
    elsewhere: Option<Elsewhere>,
}

impl ClipModel {
    /// Loads the model and runs each encoder once, on anything but the CPU twice.
    ///
    /// The execution providers of `options` are tried in order: one counts only if ONNX Runtime
    /// registers it, loads every graph with it, the probe run succeeds, and ONNX Runtime's profile of
    /// that run shows operations of every graph on it. What was passed over is in
    /// [`fallback_reason`](Self::fallback_reason), what other providers run in
    /// [`elsewhere`](Self::elsewhere).
    pub fn load(runtime: &OnnxRuntime, config: ModelConfig, options: &SessionOptions) -> Result<ClipModel> {
        Self::load_on(runtime, config, options, &options.candidates())
    }

    fn load_on(
        runtime: &OnnxRuntime,
        config: ModelConfig,
        options: &SessionOptions,
        candidates: &[Candidate],
    ) -> Result<ClipModel> {
        // Before they are read: what changes meanwhile has changed since.
        let stamps = digest::stamps(&config)?;
        let bytes = config.bytes()?;
        capacity::check(&config.dir, bytes)?;
        let sha256 = config.sha256()?;
        let choice = choose(candidates, |candidate| {
            // Whatever runs without another provider runs on the CPU.
            let folder = match candidate {
                Candidate::Cpu => None,
                _ => Some(
                    ProfileFolder::new(options.profile_folder(&config.name))
                        .map_err(|reason| ClipError::Provider { provider: candidate.name(), reason })?,
                ),
            };
            let encoders = Encoders::load(runtime, &config, options, candidate, folder.as_ref())?;
            let dimensions = encoders.probe(&config)?;
            if folder.is_none() {
                return Ok(((encoders, dimensions), Vec::new()));
            }
            // The first run's times are those of loading kernels and searching for algorithms.
            encoders.probe(&config)?;
            let executed = encoders.executed()?;
            Ok(((encoders, dimensions), executed))
        })?;
        let (encoders, dimensions) = choice.value;
        Ok(ClipModel {
            config,
            sha256,
            stamps,
            bytes,
            encoders,
            dimensions,
            provider: choice.candidate.name(),
            fallback_reason: choice.passed_over,
            elsewhere: choice.elsewhere,
        })
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

    /// Whether the model's files are not those any more that were loaded. Reads none of them.
    pub fn has_changed_on_disk(&self) -> bool {
        digest::have_changed(&self.stamps)
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

    /// What other providers run of the model; `None` if it runs on [`provider`](Self::provider) as a whole.
    pub fn elsewhere(&self) -> Option<&Elsewhere> {
        self.elsewhere.as_ref()
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

/// With ONNX Runtime's plain build, whose providers are the CPU's and Azure's. The latter takes operations
/// that call a service and no others: a provider that is registered, loads and runs, and runs nothing.
#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use ndarray::Array4;

    use super::*;

    const AZURE: &str = "AzureExecutionProvider";

    /// The runtime, a test model and a folder for profiles.
    fn fixture(variant: &str, name: &str) -> (OnnxRuntime, ModelConfig, SessionOptions) {
        let find = |variable: &str, default: &str| {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
            let path = std::env::var_os(variable).map_or_else(|| root.join(default), PathBuf::from);
            assert!(path.exists(), "there is no {}: run `make test`, or set {variable}", path.display());
            path
        };
        let library = find("SUSX_TEST_ONNXRUNTIME", "build/onnxruntime/libonnxruntime.so");
        let models = find("SUSX_TEST_MODELS", "build/test-models");
        let scratch = std::env::temp_dir().join(format!("susx-{name}-{}", std::process::id()));
        let options = SessionOptions { scratch: Some(scratch), ..SessionOptions::default() };
        (OnnxRuntime::load(&library).unwrap(), ModelConfig::read(&models, variant).unwrap(), options)
    }

    #[test]
    #[cfg_attr(
        not(test_models),
        ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`"
    )]
    fn a_provider_that_runs_nothing_is_found_out() {
        for variant in ["split", "fused"] {
            let (runtime, config, options) = fixture(variant, "idle");
            let load =
                |candidates: &[Candidate]| ClipModel::load_on(&runtime, config.clone(), &options, candidates);
            let model = load(&[Candidate::Azure, Candidate::Cpu]).unwrap();
            assert_eq!(model.provider(), "CPUExecutionProvider");
            let reason = model.fallback_reason().unwrap().to_owned();
            assert!(reason.starts_with(&format!("{AZURE}: it ran none of the ")), "{reason}");
            assert!(
                reason.ends_with("_model.onnx, which fell to CPUExecutionProvider") || variant == "fused"
            );
            match load(&[Candidate::Azure]) {
                Err(ClipError::Provider { provider: AZURE, reason: alone }) => {
                    assert_eq!(format!("{AZURE}: {alone}"), reason);
                }
                Err(other) => panic!("{other}"),
                Ok(_) => panic!("loaded on a provider that runs nothing"),
            }
            // The folder has lost the model's own, and nothing else is in it.
            let scratch = options.scratch.unwrap();
            assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
            std::fs::remove_dir(scratch).unwrap();
        }
    }

    #[test]
    #[cfg_attr(
        not(test_models),
        ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`"
    )]
    fn a_profile_has_every_operation_and_ends() {
        for variant in ["split", "fused"] {
            let (runtime, config, options) = fixture(variant, "profile");
            let path = options.profile_folder(&config.name);
            let folder = ProfileFolder::new(path.clone()).unwrap();
            let encoders =
                Encoders::load(&runtime, &config, &options, Candidate::Cpu, Some(&folder)).unwrap();
            encoders.probe(&config).unwrap();
            let files = || std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
            let executed = encoders.executed().unwrap();
            assert_eq!(executed.len(), if variant == "fused" { 1 } else { 2 });
            assert_eq!(files().count(), executed.len());
            for graph in &executed {
                let providers: Vec<&str> = graph.providers.keys().map(String::as_str).collect();
                assert_eq!(providers, ["CPUExecutionProvider"]);
                let share = &graph.providers["CPUExecutionProvider"];
                // A transformer: in each layer two products of the attention, and some of weights.
                let products: usize = share
                    .operations
                    .iter()
                    .filter(|(kind, _)| kind.contains("MatMul") || kind.contains("Gemm"))
                    .map(|(_, count)| count)
                    .sum();
                assert!(products >= 4 && share.microseconds > 0.0, "{graph:?}");
            }
            // Runs go on, and are written nowhere.
            let written: u64 = files().map(|file| file.metadata().unwrap().len()).sum();
            let (channels, height, width) = config.preprocessor.as_ref().unwrap().shape();
            for _ in 0..3 {
                encoders.image_features(Array4::zeros((2, channels, height, width)).view()).unwrap();
            }
            assert_eq!(files().map(|file| file.metadata().unwrap().len()).sum::<u64>(), written);
            assert!(encoders.executed().is_err(), "a second end of the profile names no file");
            drop((encoders, folder));
            std::fs::remove_dir(options.scratch.unwrap()).unwrap();
        }
    }

    #[test]
    #[cfg_attr(
        not(test_models),
        ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`"
    )]
    fn no_place_for_a_profile_is_a_reason() {
        let (runtime, config, mut options) = fixture("split", "nowhere");
        options.scratch = Some("/dev/null".into());
        let load =
            |candidates: &[Candidate]| ClipModel::load_on(&runtime, config.clone(), &options, candidates);
        let model = load(&[Candidate::Azure, Candidate::Cpu]).unwrap();
        let reason = model.fallback_reason().unwrap();
        assert!(
            reason.contains("cannot write a profile of the probe run to /dev/null/profile-split"),
            "{reason}"
        );
        assert!(load(&[Candidate::Cpu]).unwrap().fallback_reason().is_none());
    }
}
