//! The models of the model directory: which there are, and those that are loaded.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use susx_core::clip::{
    self, ClipModel, ExecutionProvider, ImageLimits, ModelConfig, OnnxRuntime, SessionOptions,
};

use crate::lane;
use crate::protocol::{Defaults, Failure, FailureKind, Model};
use crate::queue::{Batching, ConnectionId, FairQueue};
use crate::request::Input;
use crate::settings::Settings;

/// A loaded model and its queues.
pub struct Running {
    pub model: ClipModel,
    pub images: FairQueue<Input<Bytes>>,
    pub texts: FairQueue<Input<String>>,
}

/// Loads each model once, when it is first asked for.
pub struct Registry {
    settings: Settings,
    runtime: Mutex<Option<Arc<OnnxRuntime>>>,
    /// The outer lock is held for a look-up, a slot's own while its model is loaded: two models load
    /// at the same time, and one model once.
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

type Slot = Mutex<Option<Arc<Running>>>;

/// The name that the dynamic loader looks for where no path is set.
const SYSTEM_LIBRARY: &str = "libonnxruntime.so";

impl Registry {
    pub fn new(settings: Settings) -> Self {
        Registry { settings, runtime: Mutex::new(None), slots: Mutex::new(HashMap::new()) }
    }

    /// The model of that name, loaded; without a name, the only one there is.
    pub fn get(&self, name: Option<&str>) -> Result<Arc<Running>, Failure> {
        let dir = self.model_dir()?;
        let name = match name {
            Some(name) => name.to_owned(),
            None => only_model(dir)?,
        };
        let slot = Arc::clone(lock(&self.slots).entry(name.clone()).or_default());
        let mut slot = lock(&slot);
        if let Some(running) = slot.as_ref() {
            return Ok(Arc::clone(running));
        }
        let running = self.load(dir, &name)?;
        *slot = Some(Arc::clone(&running));
        Ok(running)
    }

    /// Every model of the directory, in the order of their names.
    pub fn list(&self) -> Result<Vec<Model>, Failure> {
        let models = clip::list_models(self.model_dir()?)?;
        let describe = |(name, config): (String, Result<ModelConfig, clip::ClipError>)| {
            let slot = lock(&self.slots).get(&name).map(Arc::clone);
            let running = slot.and_then(|slot| lock(&slot).as_ref().map(Arc::clone));
            match (running, config) {
                (Some(running), _) => self.describe(&running.model),
                (None, Ok(config)) => describe_config(&config),
                (None, Err(error)) => Model { name, error: Some(error.to_string()), ..Model::default() },
            }
        };
        Ok(models.into_iter().map(describe).collect())
    }

    /// The models that are loaded, with the provider that each really runs on, and those that are being
    /// loaded. Waits for none of them.
    pub fn loaded(&self) -> Vec<String> {
        let slots: Vec<_> =
            lock(&self.slots).iter().map(|(name, slot)| (name.clone(), Arc::clone(slot))).collect();
        let mut models: Vec<String> = slots
            .into_iter()
            .filter_map(|(name, slot)| match lock_soon(&slot) {
                Some(running) => Some(format!("{name} ({})", running.as_ref()?.model.provider())),
                None => Some(format!("{name} (loading)")),
            })
            .collect();
        models.sort();
        models
    }

    /// Drops what a connection has waiting in any model's queue.
    pub fn forget(&self, connection: ConnectionId) {
        let slots: Vec<Arc<Slot>> = lock(&self.slots).values().map(Arc::clone).collect();
        for slot in slots {
            // A slot that is locked is being loaded: nothing waits in its queues yet.
            let running = slot.try_lock().ok().and_then(|slot| slot.as_ref().map(Arc::clone));
            if let Some(running) = running {
                running.images.forget(connection);
                running.texts.forget(connection);
            }
        }
    }

    /// What a loaded model says of itself.
    pub fn describe(&self, model: &ClipModel) -> Model {
        Model {
            dimensions: u32::try_from(model.dimensions()).ok(),
            provider: Some(model.provider().to_owned()),
            loaded: true,
            sha256: Some(model.sha256()),
            error: self.broken_promise(model),
            bytes: Some(model.bytes()),
            kind: Some(model.kind().to_string()),
            ..describe_config(model.config())
        }
    }

    /// Why a model does not run on the provider that was asked for, or runs on it for the smaller part.
    /// Where it was left to us, there is nothing wrong with the CPU.
    fn broken_promise(&self, model: &ClipModel) -> Option<String> {
        let fallback = model.fallback_reason().filter(|_| self.settings.provider != ExecutionProvider::Auto);
        let elsewhere = model.elsewhere().filter(|elsewhere| elsewhere.is_most);
        let reasons: Vec<&str> = fallback.into_iter().chain(elsewhere.map(|it| it.what.as_str())).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    fn model_dir(&self) -> Result<&Path, Failure> {
        self.settings.model_dir.as_deref().ok_or_else(|| {
            Failure::new(FailureKind::Configuration, "no model directory is configured").hint(
                "Set susx.model_dir to a directory that holds one directory per model, \
                 and reload the configuration.",
            )
        })
    }

    fn load(&self, dir: &Path, name: &str) -> Result<Arc<Running>, Failure> {
        let config = match ModelConfig::read(dir, name) {
            Err(error @ clip::ClipError::ModelName { .. }) => {
                return Err(Failure::from(error).hint(known_models(dir)));
            }
            other => other?,
        };
        log::debug!("loading model \"{name}\"");
        let runtime = self.runtime()?;
        let model = ClipModel::load(&runtime, config, &self.session_options())?;
        log::info!("loaded model \"{name}\" on {}", model.provider());
        let level = match self.broken_promise(&model) {
            Some(_) => log::Level::Warn,
            None => log::Level::Info,
        };
        for remark in model.fallback_reason().into_iter().chain(model.elsewhere().map(|it| it.what.as_str()))
        {
            log::log!(level, "model \"{name}\" on {}: {remark}", model.provider());
        }
        let batching = Batching { size: self.settings.batch_size, delay: self.settings.batch_delay() };
        let (images, texts) = (FairQueue::new(batching), FairQueue::new(batching));
        let running = Arc::new(Running { model, images, texts });
        self.start_lanes(&running, name).map_err(|error| {
            Failure::new(FailureKind::Inference, format!("cannot start a thread: {error}"))
        })?;
        Ok(running)
    }

    fn start_lanes(&self, running: &Arc<Running>, name: &str) -> std::io::Result<()> {
        let batch_size = self.settings.batch_size;
        for _ in 0..lane::LANES {
            let running = Arc::clone(running);
            let limits = ImageLimits {
                max_bytes: self.settings.max_image_bytes,
                max_pixels: self.settings.max_image_pixels,
            };
            thread::Builder::new()
                .name(format!("images {name}"))
                .spawn(move || lane::images(&running.model, &running.images, &limits, batch_size))?;
        }
        for _ in 0..lane::LANES {
            let running = Arc::clone(running);
            thread::Builder::new()
                .name(format!("texts {name}"))
                .spawn(move || lane::texts(&running.model, &running.texts, batch_size))?;
        }
        Ok(())
    }

    /// ONNX Runtime, loaded once. A failure is not kept: the library may be put right meanwhile.
    fn runtime(&self) -> Result<Arc<OnnxRuntime>, Failure> {
        let mut runtime = lock(&self.runtime);
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
            // The socket's folder is the server's own.
            scratch: self.settings.socket.parent().map(Path::to_owned),
        }
    }
}

fn describe_config(config: &ModelConfig) -> Model {
    let defaults = &config.defaults;
    Model {
        name: config.name.clone(),
        kind: Some(config.kind().to_string()),
        dimensions: config.projection_dim.and_then(|d| u32::try_from(d).ok()),
        image_size: config
            .image_size()
            .and_then(|(height, width)| Some((u32::try_from(height).ok()?, u32::try_from(width).ok()?))),
        bytes: config.bytes().ok(),
        defaults: Defaults {
            alpha: defaults.alpha,
            beta: defaults.beta,
            gamma: defaults.gamma,
            temperature: defaults.temperature,
            logit_scale: defaults.logit_scale,
            lambda: defaults.lambda,
            ridge: defaults.ridge,
        },
        ..Model::default()
    }
}

fn only_model(dir: &Path) -> Result<String, Failure> {
    let mut names = model_names(dir)?;
    match (names.pop(), names.is_empty()) {
        (Some(name), true) => Ok(name),
        (None, _) => {
            Err(Failure::new(FailureKind::Configuration, format!("there is no model in {}", dir.display()))
                .hint("Put a model's directory there: a CLIP in the Hugging Face ONNX layout."))
        }
        (Some(_), false) => {
            Err(Failure::new(FailureKind::Configuration, "there are several models and none was chosen")
                .hint(format!("Name one in the call or in the setting susx.model. {}", known_models(dir))))
        }
    }
}

fn model_names(dir: &Path) -> Result<Vec<String>, Failure> {
    Ok(clip::list_models(dir)?.into_iter().map(|(name, _)| name).collect())
}

fn known_models(dir: &Path) -> String {
    match model_names(dir) {
        Ok(names) if names.is_empty() => format!("There is no model in {}.", dir.display()),
        Ok(names) => format!("Models in {}: {}.", dir.display(), names.join(", ")),
        Err(failure) => failure.message,
    }
}

/// `None` where somebody has it for more than a look-up.
fn lock_soon<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    for _ in 0..20 {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
        }
    }
    None
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic while loading leaves behind is an empty slot, which is valid.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
