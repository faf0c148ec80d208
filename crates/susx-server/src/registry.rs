//! The models of the model directory: which there are, and those that are loaded.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use susx_core::clip::{
    self, ClipModel, Elsewhere, ExecutionProvider, ModelConfig, OnnxRuntime, SessionOptions,
};
use susx_core::sus::diffusion::{self, Generator, GeneratorConfig};

use crate::embedder::{self, Embedder};
use crate::memory;
use crate::names::{self, Kind};
use crate::painter::{self, Painter};
use crate::protocol::{Defaults, Failure, FailureKind, Model};
use crate::queue::ConnectionId;
use crate::settings::Settings;
use crate::slots::{Loaded, Running, Slots};

/// Loads models when they are asked for.
pub struct Registry {
    settings: Settings,
    runtime: Mutex<Option<Arc<OnnxRuntime>>>,
    embedders: Slots<Embedder>,
    painters: Slots<Painter>,
}

/// The kind of models that make images.
const GENERATOR: &str = "diffusion";

/// The name that the dynamic loader looks for where no path is set.
const SYSTEM_LIBRARY: &str = "libonnxruntime.so";

/// What `models()` says of a model whose files were replaced.
const CHANGED_ON_DISK: &str =
    "its files have changed since they were loaded: the new ones are used after a restart of PostgreSQL";

impl Registry {
    pub fn new(settings: Settings) -> Self {
        Registry { settings, runtime: Mutex::new(None), embedders: Slots::new(), painters: Slots::new() }
    }

    /// The embedding model of that name, loaded; without a name, the only one there is.
    pub fn embedder(&self, name: Option<&str>) -> Result<Arc<Running<Embedder>>, Failure> {
        let dir = self.model_dir()?;
        let name = names::resolve(dir, name, Kind::Embedder)?;
        self.embedders.get(&name, || self.load_embedder(dir, &name))
    }

    /// The generator of that name, loaded; without a name, the only one there is.
    pub fn painter(&self, name: Option<&str>) -> Result<Arc<Running<Painter>>, Failure> {
        let dir = self.model_dir()?;
        let name = names::resolve(dir, name, Kind::Generator)?;
        self.painters.get(&name, || self.load_painter(dir, &name))
    }

    /// Every model of the directory, in the order of their names.
    pub fn list(&self) -> Result<Vec<Model>, Failure> {
        let dir = self.model_dir()?;
        let embedder = |(name, config): (String, Result<ModelConfig, clip::ClipError>)| match (
            self.embedders.look(&name),
            config,
        ) {
            (Some(running), _) => self.describe(&running.model),
            (None, Ok(config)) => describe_config(&config),
            (None, Err(error)) => Model { name, error: Some(error.to_string()), ..Model::default() },
        };
        let generator = |(name, config): (String, Result<GeneratorConfig, diffusion::GenerateError>)| match (
            self.painters.look(&name),
            config,
        ) {
            (Some(running), _) => self.describe_generator(&running),
            (None, Ok(config)) => describe_generator_config(&config),
            (None, Err(error)) => Model {
                name,
                kind: Some(GENERATOR.to_owned()),
                error: Some(error.to_string()),
                ..Model::default()
            },
        };
        let mut models: Vec<Model> = clip::list_models(dir)?.into_iter().map(embedder).collect();
        models.extend(diffusion::list_generators(dir)?.into_iter().map(generator));
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(models)
    }

    /// The models that are loaded, with the provider that each really runs on, and those that are being
    /// loaded. Waits for none of them.
    pub fn loaded(&self) -> Vec<String> {
        let mut models = self.embedders.names();
        models.extend(self.painters.names());
        models.sort();
        models
    }

    /// Drops what a connection has waiting in any model's queue.
    pub fn forget(&self, connection: ConnectionId) {
        self.embedders.forget(connection);
        self.painters.forget(connection);
    }

    /// Unloads the models that were not used for the time that the settings say.
    pub fn unload_idle(&self) {
        let timeout = self.settings.model_idle_timeout();
        let unloaded = unload(self.embedders.take_idle(timeout)) + unload(self.painters.take_idle(timeout));
        if unloaded > 0 {
            memory::give_back();
        }
    }

    /// What a loaded model says of itself.
    pub fn describe(&self, model: &ClipModel) -> Model {
        Model {
            dimensions: u32::try_from(model.dimensions()).ok(),
            provider: Some(model.provider().to_owned()),
            loaded: true,
            sha256: Some(model.sha256()),
            error: self.remarks(model),
            bytes: Some(model.bytes()),
            kind: Some(model.kind().to_string()),
            ..describe_config(model.config())
        }
    }

    /// What is to be said of a loaded model, if anything.
    fn remarks(&self, model: &ClipModel) -> Option<String> {
        let changed = model.has_changed_on_disk().then(|| CHANGED_ON_DISK.to_owned());
        let remarks: Vec<String> = changed
            .into_iter()
            .chain(self.broken_promise(model.fallback_reason(), model.elsewhere()))
            .collect();
        (!remarks.is_empty()).then(|| remarks.join("; "))
    }

    /// What a loaded generator says of itself.
    pub fn describe_generator(&self, painter: &Painter) -> Model {
        let generator = &painter.generator;
        Model {
            provider: Some(generator.provider().to_owned()),
            loaded: true,
            sha256: Some(generator.sha256()),
            error: self.broken_promise(generator.fallback_reason(), generator.elsewhere()),
            bytes: Some(generator.bytes()),
            ..describe_generator_config(generator.config())
        }
    }

    /// Why a model does not run on the provider that was asked for, or runs on it for the smaller part.
    /// Where it was left to us, there is nothing wrong with the CPU, unless ONNX Runtime is the one for GPUs.
    fn broken_promise(&self, fallback: Option<&str>, elsewhere: Option<&Elsewhere>) -> Option<String> {
        let is_auto = self.settings.provider == ExecutionProvider::Auto;
        let has_cuda = || self.runtime().is_ok_and(|runtime| runtime.has_cuda());
        let fallback = fallback.filter(|_| !is_auto || has_cuda());
        let elsewhere = elsewhere.filter(|elsewhere| elsewhere.is_most);
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

    fn load_embedder(&self, dir: &Path, name: &str) -> Result<Running<Embedder>, Failure> {
        let config = ModelConfig::read(dir, name)
            .map_err(|error| names::with_known(error.into(), dir, Kind::Embedder))?;
        log::debug!("loading model \"{name}\"");
        let model = ClipModel::load(&*self.runtime()?, config, &self.session_options())?;
        self.log_loaded(name, model.provider(), model.fallback_reason(), model.elsewhere());
        embedder::start(model, &self.settings)
    }

    fn load_painter(&self, dir: &Path, name: &str) -> Result<Running<Painter>, Failure> {
        let config = GeneratorConfig::read(dir, name)
            .map_err(|error| names::with_known(error.into(), dir, Kind::Generator))?;
        log::debug!("loading generator \"{name}\"");
        let generator = Generator::load(&*self.runtime()?, config, &self.session_options())?;
        self.log_loaded(name, generator.provider(), generator.fallback_reason(), generator.elsewhere());
        painter::start(generator, &self.settings)
    }

    fn log_loaded(&self, name: &str, provider: &str, fallback: Option<&str>, elsewhere: Option<&Elsewhere>) {
        log::info!("loaded model \"{name}\" on {provider}");
        let level = match self.broken_promise(fallback, elsewhere) {
            Some(_) => log::Level::Warn,
            None => log::Level::Info,
        };
        for remark in fallback.into_iter().chain(elsewhere.map(|it| it.what.as_str())) {
            log::log!(level, "model \"{name}\" on {provider}: {remark}");
        }
    }

    /// ONNX Runtime, loaded once. A failure is not kept: the library may be put right meanwhile.
    fn runtime(&self) -> Result<Arc<OnnxRuntime>, Failure> {
        // What a panic while loading leaves behind is none, which is valid.
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

fn describe_generator_config(config: &GeneratorConfig) -> Model {
    Model {
        name: config.name.clone(),
        kind: Some(GENERATOR.to_owned()),
        image_size: Some(config.image_size()),
        bytes: config.bytes().ok(),
        ..Model::default()
    }
}

/// Drops models, with all that they have in memory; returns how many.
fn unload<M: Loaded>(models: Vec<(String, Arc<Running<M>>)>) -> usize {
    let count = models.len();
    for (name, model) in models {
        drop(model);
        log::info!("unloaded model \"{name}\", which was not used for susx.model_idle_timeout");
    }
    count
}
