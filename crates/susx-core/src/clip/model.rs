//! A loaded CLIP model: its two encoders, and the execution provider that really runs them.

use ndarray::{Array2, ArrayView4};

use super::check::ModelCheck;
use super::config::{ModelConfig, ModelKind};
use super::encoders::{Encoders, normalise};
use super::error::{ClipError, Result};
use super::preprocess::Preprocessor;
use super::tokenizer::{ClipTokenizer, TokenBatch};
use crate::onnx::digest::FileTimes;
use crate::onnx::{Candidate, OnnxRuntime, PartialFallback, SessionOptions, capacity, select};

/// A CLIP model, loaded and probed. Threads can share it; runs of one graph may wait for each other.
///
/// Split files are faster than a fused one: ONNX Runtime always runs both encoders of a fused graph, so a batch of
/// images also costs an empty text, and a batch of texts a blank image.
pub struct ClipModel {
    check: ModelCheck,
    sha256: [u8; 32],
    file_times: FileTimes,
    bytes: u64,
    encoders: Encoders,
    dimensions: usize,
    provider: &'static str,
    fallback_reason: Option<String>,
    partial_fallback: Option<PartialFallback>,
}

impl ClipModel {
    /// Loads the model and probes it: runs each encoder once, on anything but the CPU twice.
    ///
    /// Tries the execution providers of `options` in order. A provider works only if ONNX Runtime registers it and
    /// loads every graph with it, the probe succeeds, and ONNX Runtime's profile of the probe shows operations of
    /// every graph on it. [`fallback_reason`](Self::fallback_reason) tells why others were skipped, and
    /// [`partial_fallback`](Self::partial_fallback) what they still run.
    ///
    /// If only one of two encoders can be loaded, the model has that one, and `broken` of its [`config`](Self::config) says
    /// why not the other. Fails if the files do not fit into memory, contradict each other, or run on no provider.
    pub fn load(runtime: &OnnxRuntime, config: ModelConfig, options: &SessionOptions) -> Result<ClipModel> {
        let check = ModelCheck::of(config)?;
        let halves = check.halves();
        let load = |check| Self::load_on(runtime, check, options, &options.candidates());
        match (load(check), halves) {
            (Err(error), Some(halves)) if error.is_of_files() => {
                let [images, texts] = halves.map(load);
                match (images, texts) {
                    (Ok(mut model), Err(reason)) if reason.is_of_files() => {
                        model.check.config.broken.text = Some(reason);
                        Ok(model)
                    }
                    (Err(reason), Ok(mut model)) if reason.is_of_files() => {
                        model.check.config.broken.vision = Some(reason);
                        Ok(model)
                    }
                    _ => Err(error),
                }
            }
            (loaded, _) => loaded,
        }
    }

    fn load_on(
        runtime: &OnnxRuntime,
        check: ModelCheck,
        options: &SessionOptions,
        candidates: &[Candidate],
    ) -> Result<ClipModel> {
        let config = &check.config;
        // Taken before the files are read, so that a change during loading is noticed.
        let file_times = config.file_times()?;
        let bytes = config.bytes()?;
        capacity::check(&config.dir, bytes)?;
        let sha256 = config.sha256()?;
        let selection = select(candidates, |candidate| {
            let folder = options.profile_folder(candidate, &config.name)?;
            let encoders = Encoders::load(runtime, &check, options, candidate, folder.as_ref())?;
            let dimensions = encoders.probe(config)?;
            if folder.is_none() {
                return Ok::<_, ClipError>(((encoders, dimensions), Vec::new()));
            }
            // The times of the first run include loading kernels and searching for algorithms.
            encoders.probe(config)?;
            let profiles = encoders.end_profiles()?;
            Ok(((encoders, dimensions), profiles))
        })?;
        let (encoders, dimensions) = selection.value;
        Ok(ClipModel {
            check,
            sha256,
            file_times,
            bytes,
            encoders,
            dimensions,
            provider: selection.candidate.name(),
            fallback_reason: selection.fallback_reason,
            partial_fallback: selection.partial_fallback,
        })
    }

    /// The configuration that the model was loaded with.
    pub fn config(&self) -> &ModelConfig {
        &self.check.config
    }

    /// What the checks before loading found.
    pub fn check(&self) -> &ModelCheck {
        &self.check
    }

    /// Name of the model.
    pub fn name(&self) -> &str {
        &self.check.config.name
    }

    /// The encoders that the graphs really have.
    pub fn kind(&self) -> ModelKind {
        match (&self.encoders.image, &self.encoders.text) {
            (Some(_), None) => ModelKind::Vision,
            (None, Some(_)) => ModelKind::Text,
            _ => ModelKind::Clip,
        }
    }

    /// Number of dimensions of an embedding.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// SHA-256 of the model's files when it was loaded; see [`ModelConfig::sha256`].
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// Whether the model's files have changed since the model was loaded, by their lengths and times.
    pub fn has_changed_on_disk(&self) -> bool {
        self.file_times.have_changed()
    }

    /// Size of the graphs and weights on disk, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Turns an image into the image encoder's input; `None` for a text model.
    pub fn preprocessor(&self) -> Option<&Preprocessor> {
        self.encoders.image.as_ref().and(self.check.config.preprocessor.as_ref())
    }

    /// Turns a text into the text encoder's input; `None` for an image model.
    pub fn tokenizer(&self) -> Option<&ClipTokenizer> {
        self.encoders.text.as_ref().and(self.encoders.tokenizer.as_ref())
    }

    /// ONNX Runtime's name of the execution provider that the model runs on, such as `CPUExecutionProvider`.
    pub fn provider(&self) -> &'static str {
        self.provider
    }

    /// Whether a single image can be embedded between the pieces of a batch, or at the same time.
    pub fn runs_single_images(&self) -> bool {
        self.encoders.image.as_ref().is_some_and(|encoder| encoder.has_small_pieces)
    }

    /// Whether a single text can be embedded between the pieces of a batch, or at the same time.
    pub fn runs_single_texts(&self) -> bool {
        self.encoders.text.as_ref().is_some_and(|encoder| encoder.has_small_pieces)
    }

    /// Why the providers before this one are not used; `None` if it is the first that was tried.
    pub fn fallback_reason(&self) -> Option<&str> {
        self.fallback_reason.as_deref()
    }

    /// Operations that other providers run; `None` if [`provider`](Self::provider) runs the whole model.
    pub fn partial_fallback(&self) -> Option<&PartialFallback> {
        self.partial_fallback.as_ref()
    }

    /// Embeds preprocessed images: N × 3 × H × W in, N × [`dimensions`](Self::dimensions) out, each
    /// row of length 1. Fails for a text model, a wrong shape, or an image without a usable embedding.
    pub fn image_features(&self, pixel_values: ArrayView4<f32>) -> Result<Array2<f32>> {
        let preprocessor = self.preprocessor().ok_or_else(|| self.no_image_encoder())?;
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
    /// row of length 1. Fails for an image model, or a text without a usable embedding.
    pub fn text_features(&self, tokens: &TokenBatch) -> Result<Array2<f32>> {
        if self.encoders.text.is_none() {
            return Err(self.no_text_encoder());
        }
        if tokens.input_ids.nrows() == 0 {
            return Ok(Array2::zeros((0, self.dimensions)));
        }
        let features = self.encoders.text_features(tokens, self.check.config.preprocessor.as_ref())?;
        self.normalised(features, tokens.input_ids.nrows())
    }

    /// Why the model embeds no images: it has no encoder for them, or that one is broken.
    pub fn no_image_encoder(&self) -> ClipError {
        self.no_encoder("image", self.config().broken.vision.as_ref())
    }

    /// Why the model embeds no texts.
    pub fn no_text_encoder(&self) -> ClipError {
        self.no_encoder("text", self.config().broken.text.as_ref())
    }

    fn no_encoder(&self, encoder: &'static str, reason: Option<&ClipError>) -> ClipError {
        let none = || ClipError::NoEncoder { model: self.name().to_owned(), encoder };
        reason.cloned().unwrap_or_else(none)
    }

    fn normalised(&self, features: Array2<f32>, rows: usize) -> Result<Array2<f32>> {
        if features.dim() != (rows, self.dimensions) {
            return Err(ClipError::inference(format!(
                "the model returned {:?} values, expected {:?}",
                features.dim(),
                (rows, self.dimensions)
            )));
        }
        normalise(features)
    }
}

/// These tests use ONNX Runtime's plain build, whose providers are the CPU's and Azure's. The latter takes only
/// operations that call a web service: it is registered, loads and runs the model, but runs no operation of it.
#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use ndarray::Array4;

    use super::*;
    use crate::onnx::{OnnxError, ProfileFolder};

    const AZURE: &str = "AzureExecutionProvider";

    /// The runtime, a test model, and options with a scratch folder.
    fn fixture(variant: &str, name: &str) -> (OnnxRuntime, ModelCheck, SessionOptions) {
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
        (OnnxRuntime::load(&library).unwrap(), ModelCheck::read(&models, variant).unwrap(), options)
    }

    #[test]
    #[cfg_attr(
        not(test_models),
        ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`"
    )]
    fn a_provider_that_runs_nothing_is_detected() {
        for variant in ["split", "fused"] {
            let (runtime, check, options) = fixture(variant, "idle");
            let load =
                |candidates: &[Candidate]| ClipModel::load_on(&runtime, check.clone(), &options, candidates);
            let model = load(&[Candidate::Azure, Candidate::Cpu]).unwrap();
            assert_eq!(model.provider(), "CPUExecutionProvider");
            let reason = model.fallback_reason().unwrap().to_owned();
            assert!(reason.starts_with(&format!("{AZURE}: it ran none of the ")), "{reason}");
            assert!(reason.ends_with("_model.onnx; they ran on CPUExecutionProvider") || variant == "fused");
            match load(&[Candidate::Azure]) {
                Err(ClipError::Onnx(OnnxError::Provider { provider: AZURE, reason: alone })) => {
                    assert_eq!(format!("{AZURE}: {alone}"), reason);
                }
                Err(other) => panic!("{other}"),
                Ok(_) => panic!("loaded on a provider that runs nothing"),
            }
            // The model's folder is removed, and nothing else was created.
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
            let (runtime, check, options) = fixture(variant, "profile");
            let path = options.profile_path(&check.config.name);
            let folder = ProfileFolder::new(path.clone()).unwrap();
            let encoders = Encoders::load(&runtime, &check, &options, Candidate::Cpu, Some(&folder)).unwrap();
            encoders.probe(&check.config).unwrap();
            let files = || std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
            let profiles = encoders.end_profiles().unwrap();
            assert_eq!(profiles.len(), if variant == "fused" { 1 } else { 2 });
            assert_eq!(files().count(), profiles.len());
            for graph in &profiles {
                let providers: Vec<&str> = graph.providers.keys().map(String::as_str).collect();
                assert_eq!(providers, ["CPUExecutionProvider"]);
                let cpu = &graph.providers["CPUExecutionProvider"];
                // A transformer has in each layer two matrix products of the attention, and some with weights.
                let products: usize = cpu
                    .operations
                    .iter()
                    .filter(|(kind, _)| kind.contains("MatMul") || kind.contains("Gemm"))
                    .map(|(_, count)| count)
                    .sum();
                assert!(products >= 4 && cpu.microseconds > 0.0, "{graph:?}");
            }
            // Further runs are not profiled.
            let written: u64 = files().map(|file| file.metadata().unwrap().len()).sum();
            let (channels, height, width) = check.config.preprocessor.as_ref().unwrap().shape();
            for _ in 0..3 {
                encoders.image_features(Array4::zeros((2, channels, height, width)).view()).unwrap();
            }
            assert_eq!(files().map(|file| file.metadata().unwrap().len()).sum::<u64>(), written);
            assert!(encoders.end_profiles().is_err(), "a second end of the profile names no file");
            drop((encoders, folder));
            std::fs::remove_dir(options.scratch.unwrap()).unwrap();
        }
    }

    #[test]
    #[cfg_attr(
        not(test_models),
        ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`"
    )]
    fn an_unwritable_profile_folder_is_a_reason() {
        let (runtime, check, mut options) = fixture("split", "nowhere");
        options.scratch = Some("/dev/null".into());
        let load =
            |candidates: &[Candidate]| ClipModel::load_on(&runtime, check.clone(), &options, candidates);
        let model = load(&[Candidate::Azure, Candidate::Cpu]).unwrap();
        let reason = model.fallback_reason().unwrap();
        assert!(
            reason.contains("cannot write a profile of the probe run to /dev/null/profile-split"),
            "{reason}"
        );
        assert!(load(&[Candidate::Cpu]).unwrap().fallback_reason().is_none());
    }
}
