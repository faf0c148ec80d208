//! Loads a model and starts its batching tasks.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use susx_core::clip::{ClipError, ClipModel, ImageLimits, ModelCheck, ModelConfig};
use susx_core::onnx::{
    self, ExecutionProvider, OnnxError, OnnxRuntime, PartialFallback, SessionOptions, Stamp, WrapsOnnxError,
    capacity,
};

use crate::batching::embedding_service::{self, EmbeddingService};
use crate::batching::generation_service::{self, GenerationService};
use crate::batching::image_file::Decoding;
use crate::batching::pixel_budget::PixelBudget;
use crate::batching::service::RunningService;
use crate::diffusion::{GenerateError, Generator, GeneratorConfig};
use crate::models::model_cache::LoadError;
use crate::models::model_names::{self, Purpose};
use crate::models::stuck_models::StuckModels;
use crate::protocol::{Failure, FailureKind};
use crate::settings::Settings;
use crate::watchdog::{Activity, Overdue, Watchdog};

/// Settings and state that all loads share.
pub struct Loader {
    pub settings: Settings,
    pub watchdog: Arc<Watchdog>,
    /// Limits of decoding. The budget is that of all models together.
    decoding: Decoding,
    stuck: StuckModels,
    runtime: Mutex<Option<Arc<OnnxRuntime>>>,
}

/// Library name for the dynamic loader when susx.onnxruntime_library is not set.
const SYSTEM_LIBRARY: &str = "libonnxruntime.so";

impl Loader {
    /// A loader without any state yet; ONNX Runtime is loaded with the first model.
    pub fn new(settings: Settings) -> Self {
        let stuck = StuckModels::beside(&settings.socket);
        let limits =
            ImageLimits { max_bytes: settings.max_image_bytes, max_pixels: settings.max_image_pixels };
        let pixel_budget = Arc::new(PixelBudget::new(settings.max_image_pixels));
        let decoding = Decoding { limits, is_scaled: !settings.full_decoding, pixel_budget };
        Loader { settings, watchdog: Arc::default(), decoding, stuck, runtime: Mutex::new(None) }
    }

    /// Limits of decoding images.
    pub fn decoding(&self) -> &Decoding {
        &self.decoding
    }

    /// Loads the embedding model `name` from `dir` and starts its tasks.
    ///
    /// Fails if an earlier process hung in it, or if its files, ONNX Runtime or the execution provider cannot be used.
    pub fn embedder(&self, dir: &Path, name: &str) -> Result<RunningService<EmbeddingService>, LoadError> {
        self.stuck(name, onnx::stamp(dir, name)).map_or(Ok(()), Err)?;
        let _guard = self.watchdog.begin(name, Activity::Loading, self.settings.load_timeout());
        let load_error =
            |error: ClipError| load_error(is_caused_by_files(&error), error.into(), dir, Purpose::Embedding);
        let config = ModelConfig::read(dir, name).map_err(load_error)?;
        log::debug!("loading model \"{name}\"");
        let runtime = self.runtime()?;
        let model = ClipModel::load(&runtime, config, &self.session_options()).map_err(load_error)?;
        self.log_loaded(name, model.provider(), model.fallback_reason(), model.partial_fallback());
        if let Some(error) = model.check().error() {
            log::warn!("model \"{name}\": {error}");
        }
        Ok(embedding_service::start(model, &self.settings, &self.watchdog, &self.decoding)?)
    }

    /// Loads the generator `name` from `dir` and starts its task; fails like [`embedder`](Self::embedder).
    pub fn generator(&self, dir: &Path, name: &str) -> Result<RunningService<GenerationService>, LoadError> {
        self.stuck(name, onnx::stamp(dir, name)).map_or(Ok(()), Err)?;
        let _guard = self.watchdog.begin(name, Activity::Loading, self.settings.load_timeout());
        let load_error = |error: GenerateError| {
            load_error(is_caused_by_files(&error), error.into(), dir, Purpose::Generation)
        };
        let config = GeneratorConfig::read(dir, name).map_err(load_error)?;
        log::debug!("loading generator \"{name}\"");
        let runtime = self.runtime()?;
        let generator = Generator::load(&runtime, config, &self.session_options()).map_err(load_error)?;
        self.log_loaded(
            name,
            generator.provider(),
            generator.fallback_reason(),
            generator.partial_fallback(),
        );
        Ok(generation_service::start(generator, &self.settings, &self.watchdog)?)
    }

    /// Size of an embedding model's graphs and weights, in bytes. 0 for a model that will not be loaded: no other needs to
    /// make room for it, and the attempt to load it will say why.
    pub fn embedder_bytes(&self, dir: &Path, name: &str) -> u64 {
        let check = || ModelCheck::read(dir, name).ok()?.config.bytes().ok();
        self.bytes(dir, name, check)
    }

    /// Size of a generator; like [`embedder_bytes`](Self::embedder_bytes).
    pub fn generator_bytes(&self, dir: &Path, name: &str) -> u64 {
        self.bytes(dir, name, || GeneratorConfig::read(dir, name).ok()?.bytes().ok())
    }

    fn bytes(&self, dir: &Path, name: &str, read: impl FnOnce() -> Option<u64>) -> u64 {
        if self.stuck(name, onnx::stamp(dir, name)).is_some() {
            return 0;
        }
        read().filter(|&bytes| capacity::check(dir, bytes).is_ok()).unwrap_or(0)
    }

    /// The failure of a model that an earlier process hung in; such a model is not loaded.
    pub fn stuck(&self, name: &str, stamp: Option<Stamp>) -> Option<Failure> {
        let message = self.stuck.message(name, &stamp?.digest)?;
        Some(Failure::new(FailureKind::Configuration, message).hint(STUCK_HINT))
    }

    /// Records the overdue model for the next process, and returns the failure for the requests that wait for it.
    pub fn give_up(&self, overdue: &Overdue) -> Failure {
        let Overdue { model, activity, limit } = overdue;
        let message = match activity {
            Activity::Loading => {
                format!("the model \"{model}\" has not been loaded within {limit:?} (susx.load_timeout)")
            }
            Activity::Batch => {
                format!("the model \"{model}\" has not finished a batch within {limit:?} (susx.load_timeout)")
            }
            Activity::Tokenizing => {
                format!("the tokenizer of the model \"{model}\" has not finished within {limit:?}")
            }
        };
        log::error!("{message}: ending the process; the model is not loaded again until its files change");
        let dir = self.settings.model_dir.as_deref();
        if let Some(stamp) = dir.and_then(|dir| onnx::stamp(dir, model))
            && let Err(error) = self.stuck.record(model, stamp.digest, &message)
        {
            log::error!("cannot record that the model \"{model}\" is stuck: {error}");
        }
        Failure::new(FailureKind::Configuration, message).hint(STUCK_HINT)
    }

    /// Warning for a model that does not run, or runs less than half of its operations, on the requested provider.
    /// With the provider `auto`, the CPU is worth a warning only if ONNX Runtime supports CUDA.
    pub fn fallback_warning(
        &self,
        fallback: Option<&str>,
        partial: Option<&PartialFallback>,
    ) -> Option<String> {
        let is_auto = self.settings.provider == ExecutionProvider::Auto;
        let has_cuda = || self.runtime().is_ok_and(|runtime| runtime.has_cuda());
        let fallback = fallback.filter(|_| !is_auto || has_cuda());
        let partial = partial.filter(|partial| partial.is_majority);
        let reasons: Vec<&str> =
            fallback.into_iter().chain(partial.map(|it| it.operations.as_str())).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    fn log_loaded(
        &self,
        name: &str,
        provider: &str,
        fallback: Option<&str>,
        partial: Option<&PartialFallback>,
    ) {
        log::info!("loaded model \"{name}\" on {provider}");
        let level = match self.fallback_warning(fallback, partial) {
            Some(_) => log::Level::Warn,
            None => log::Level::Info,
        };
        for remark in fallback.into_iter().chain(partial.map(|it| it.operations.as_str())) {
            log::log!(level, "model \"{name}\" on {provider}: {remark}");
        }
    }

    /// ONNX Runtime, loaded once. A failure is not cached, because the library may be repaired later.
    fn runtime(&self) -> Result<Arc<OnnxRuntime>, Failure> {
        // A panic during a load leaves `None` behind, which is valid.
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = runtime.as_ref() {
            return Ok(Arc::clone(runtime));
        }
        let path = self.settings.onnxruntime.clone().unwrap_or_else(|| PathBuf::from(SYSTEM_LIBRARY));
        let loaded = Arc::new(OnnxRuntime::load(&path)?);
        *runtime = Some(Arc::clone(&loaded));
        Ok(loaded)
    }

    fn session_options(&self) -> SessionOptions {
        SessionOptions {
            provider: self.settings.provider,
            device_id: self.settings.gpu_device,
            require_gpu: self.settings.require_gpu,
            intra_threads: self.settings.threads,
            gpu_mem_limit: Some(self.settings.gpu_memory_limit << 20).filter(|&limit| limit > 0),
            batch_size: self.settings.batch_size,
            // The socket's directory is private to the server.
            scratch: self.settings.socket.parent().map(Path::to_owned),
        }
    }
}

const STUCK_HINT: &str =
    "susx tries to load it again when its files change or PostgreSQL's configuration is reloaded.";

fn load_error(is_caused_by_files: bool, failure: Failure, dir: &Path, purpose: Purpose) -> LoadError {
    LoadError { failure: model_names::with_available(failure, dir, purpose), is_caused_by_files }
}

/// Whether the model's files caused the error, rather than ONNX Runtime or the execution provider.
fn is_caused_by_files(error: &impl WrapsOnnxError) -> bool {
    !matches!(error.as_onnx(), Some(OnnxError::Runtime { .. } | OnnxError::Provider { .. }))
}
