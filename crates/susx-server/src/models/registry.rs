//! The models of the model directory: which there are, and those that are loaded.

use std::path::Path;
use std::sync::Arc;

use susx_core::clip::{ClipModel, ModelConfig};
use susx_core::onnx;

use crate::batching::embedding_service::EmbeddingService;
use crate::batching::fair_queue::ConnectionId;
use crate::batching::generation_service::GenerationService;
use crate::batching::service::{RunningService, Service};
use crate::diffusion::GeneratorConfig;
use crate::memory;
use crate::models::descriptions::DescriptionCache;
use crate::models::loader::Loader;
use crate::models::model_cache::{ModelCache, ModelState};
use crate::models::model_names::{ModelNames, Purpose};
use crate::protocol::{Defaults, Failure, FailureKind, Model};
use crate::settings::Settings;

/// Loads models when they are asked for.
pub struct Registry {
    loader: Arc<Loader>,
    embedders: Arc<ModelCache<EmbeddingService>>,
    generators: Arc<ModelCache<GenerationService>>,
    names: ModelNames,
    described: DescriptionCache,
}

/// The kind of models that make images.
pub(crate) const GENERATOR: &str = "diffusion";

/// What `models()` says of a model whose files were replaced.
const CHANGED_ON_DISK: &str =
    "its files have changed since they were loaded: the new ones are used after a restart of PostgreSQL";

impl Registry {
    pub fn new(settings: Settings) -> Self {
        Registry {
            loader: Arc::new(Loader::new(settings)),
            embedders: ModelCache::new(),
            generators: ModelCache::new(),
            names: ModelNames::default(),
            described: DescriptionCache::default(),
        }
    }

    /// The embedding model of that name, loaded; without a name, the only one there is. Waits for it until the one
    /// who asks `has_left`.
    pub fn embedder(
        &self,
        name: Option<&str>,
        has_left: impl Fn() -> bool,
    ) -> Result<Arc<RunningService<EmbeddingService>>, Failure> {
        let dir = self.model_dir()?;
        let name = self.names.resolve(dir, name, Purpose::Embedding)?;
        let load = {
            let (loader, dir, name) = (Arc::clone(&self.loader), dir.to_owned(), name.clone());
            move || loader.embedder(&dir, &name)
        };
        self.embedders.get(&name, || stamp_of(dir, &name), load, has_left)
    }

    /// The generator of that name, in the same way.
    pub fn generator(
        &self,
        name: Option<&str>,
        has_left: impl Fn() -> bool,
    ) -> Result<Arc<RunningService<GenerationService>>, Failure> {
        #[cfg(not(feature = "diffusion"))]
        GeneratorConfig::read(self.model_dir()?, name.unwrap_or_default())?;
        let dir = self.model_dir()?;
        let name = self.names.resolve(dir, name, Purpose::Generation)?;
        let load = {
            let (loader, dir, name) = (Arc::clone(&self.loader), dir.to_owned(), name.clone());
            move || loader.generator(&dir, &name)
        };
        self.generators.get(&name, || stamp_of(dir, &name), load, has_left)
    }

    /// Every model of the directory, in the order of their names. Waits for none of them.
    pub fn list(&self) -> Result<Vec<Model>, Failure> {
        let dir = self.model_dir()?;
        let unloaded = |name: &str, purpose: Purpose, state: Option<String>| {
            let stamp = onnx::stamp(dir, name);
            let stuck = self.loader.stuck(name, stamp).map(|failure| failure.message);
            let model = self.described.get(dir, name, purpose, stamp);
            Model { error: stuck.or(state).or(model.error), ..model }
        };
        let mut models: Vec<Model> = Vec::new();
        for name in self.names.of(dir, Purpose::Embedding)? {
            models.push(match self.embedders.look(&name) {
                ModelState::Ready(running) => self.describe(&running.model),
                other => unloaded(&name, Purpose::Embedding, other.remark()),
            });
        }
        for name in self.names.of(dir, Purpose::Generation)? {
            models.push(match self.generators.look(&name) {
                ModelState::Ready(running) => self.describe_generator(&running),
                other => unloaded(&name, Purpose::Generation, other.remark()),
            });
        }
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(models)
    }

    /// Whether an activity has exceeded its limit; if so, fails the requests that wait for its model.
    pub fn find_stuck(&self) -> bool {
        let Some(overdue) = self.loader.watchdog.overdue() else { return false };
        let failure = self.loader.give_up(&overdue);
        self.embedders.give_up(&overdue.model, &failure);
        self.generators.give_up(&overdue.model, &failure);
        true
    }

    /// The models that are loaded, with the provider that each really runs on, and those that are being
    /// loaded. Waits for none of them.
    pub fn loaded(&self) -> Vec<String> {
        let mut models = self.embedders.names();
        models.extend(self.generators.names());
        models.sort();
        models
    }

    /// Drops what a connection has waiting in any model's queue.
    pub fn forget(&self, connection: ConnectionId) {
        self.embedders.forget(connection);
        self.generators.forget(connection);
    }

    /// Unloads the models that were not used for the time that the settings say.
    pub fn unload_idle(&self) {
        let timeout = self.loader.settings.model_idle_timeout();
        let unloaded = unload(self.embedders.take_idle(timeout)) + unload(self.generators.take_idle(timeout));
        if unloaded > 0 {
            memory::release_free_memory();
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
            .chain(self.loader.broken_promise(model.fallback_reason(), model.partial_fallback()))
            .collect();
        (!remarks.is_empty()).then(|| remarks.join("; "))
    }

    /// What a loaded generator says of itself.
    pub fn describe_generator(&self, painter: &GenerationService) -> Model {
        let generator = &painter.generator;
        Model {
            provider: Some(generator.provider().to_owned()),
            loaded: true,
            sha256: Some(generator.sha256()),
            error: self.loader.broken_promise(generator.fallback_reason(), generator.partial_fallback()),
            bytes: Some(generator.bytes()),
            ..describe_generator_config(generator.config())
        }
    }

    fn model_dir(&self) -> Result<&Path, Failure> {
        self.loader.settings.model_dir.as_deref().ok_or_else(|| {
            Failure::new(FailureKind::Configuration, "no model directory is configured").hint(
                "Set susx.model_dir to a directory that holds one directory per model, \
                 and reload the configuration.",
            )
        })
    }
}

fn stamp_of(dir: &Path, name: &str) -> Option<[u8; 32]> {
    onnx::stamp(dir, name).map(|stamp| stamp.digest)
}

pub(crate) fn describe_config(config: &ModelConfig) -> Model {
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

pub(crate) fn describe_generator_config(config: &GeneratorConfig) -> Model {
    Model {
        name: config.name.clone(),
        kind: Some(GENERATOR.to_owned()),
        image_size: Some(config.image_size()),
        bytes: config.bytes().ok(),
        ..Model::default()
    }
}

/// Drops models, with all that they have in memory; returns how many.
fn unload<M: Service>(models: Vec<(String, Arc<RunningService<M>>)>) -> usize {
    let count = models.len();
    for (name, model) in models {
        drop(model);
        log::info!("unloaded model \"{name}\", which was not used for susx.model_idle_timeout");
    }
    count
}
