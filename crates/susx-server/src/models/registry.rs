//! The models of the model directory: names, descriptions and loaded models.

use std::path::Path;
use std::sync::Arc;

use susx_core::clip::ClipModel;
use susx_core::onnx;

use crate::batching::embedding_service::EmbeddingService;
use crate::batching::fair_queue::ConnectionId;
use crate::batching::generation_service::GenerationService;
use crate::batching::image_file::Decoding;
use crate::batching::service::{RunningService, Service};
#[cfg(not(feature = "diffusion"))]
use crate::diffusion::GeneratorConfig;
use crate::memory;
use crate::models::descriptions::{DescriptionCache, describe_check, describe_generator_config};
use crate::models::loader::Loader;
use crate::models::model_cache::{ModelCache, ModelState};
use crate::models::model_memory::ModelMemory;
use crate::models::model_names::{ModelNames, Purpose};
use crate::models::pending_load::Requested;
use crate::protocol::{Failure, FailureKind, Model};
use crate::settings::Settings;

/// Finds, loads, describes and unloads models.
pub struct Registry {
    loader: Arc<Loader>,
    embedders: Arc<ModelCache<EmbeddingService>>,
    generators: Arc<ModelCache<GenerationService>>,
    memory: Arc<ModelMemory>,
    names: ModelNames,
    descriptions: DescriptionCache,
}

/// Remark in `models()` on a loaded model whose files were replaced.
const CHANGED_ON_DISK: &str =
    "its files have changed since they were loaded: the new ones are used after a restart of PostgreSQL";

impl Registry {
    /// A registry without loaded models.
    pub fn new(settings: Settings) -> Self {
        let loader = Arc::new(Loader::new(settings));
        let (embedders, generators) = (ModelCache::new(), ModelCache::new());
        let memory = ModelMemory::new(&loader, &embedders, &generators);
        Registry {
            loader,
            embedders,
            generators,
            memory,
            names: ModelNames::default(),
            descriptions: DescriptionCache::default(),
        }
    }

    /// The embedding model `name`, loaded if necessary; without a name, the only one. Waits for the load until
    /// `is_disconnected`.
    ///
    /// Fails if there is no such model, no name and not exactly one model, or if the load fails.
    pub fn embedder(
        &self,
        name: Option<&str>,
        is_disconnected: impl Fn() -> bool,
    ) -> Result<Arc<RunningService<EmbeddingService>>, Failure> {
        let dir = self.model_dir()?;
        let name = self.names.resolve(dir, name, Purpose::Embedding)?;
        self.request_embedder(dir, &name, None)?.wait(is_disconnected)
    }

    /// The embedding models `name` and `likeness`, which load side by side; like [`embedder`](Self::embedder).
    pub fn embedder_pair(
        &self,
        name: Option<&str>,
        likeness: &str,
        is_disconnected: impl Fn() -> bool,
    ) -> Result<[Arc<RunningService<EmbeddingService>>; 2], Failure> {
        let dir = self.model_dir()?;
        let name = self.names.resolve(dir, name, Purpose::Embedding)?;
        let likeness = self.names.resolve(dir, Some(likeness), Purpose::Embedding)?;
        let are_two = name != likeness;
        let first = self.request_embedder(dir, &name, are_two.then_some(likeness.as_str()))?;
        let second = self.request_embedder(dir, &likeness, are_two.then_some(name.as_str()))?;
        Ok([first.wait(&is_disconnected)?, second.wait(is_disconnected)?])
    }

    /// The embedding model `name`, of which a load is started if necessary; `beside` is another one that the same request
    /// needs.
    fn request_embedder(
        &self,
        dir: &Path,
        name: &str,
        beside: Option<&str>,
    ) -> Result<Requested<EmbeddingService>, Failure> {
        let load = {
            let (loader, memory) = (Arc::clone(&self.loader), Arc::clone(&self.memory));
            let (dir, name, beside) = (dir.to_owned(), name.to_owned(), beside.map(str::to_owned));
            move || {
                let room = memory.for_embedder(&dir, &name, beside.as_deref());
                Ok(loader.embedder(&dir, &name)?.with_room(room))
            }
        };
        self.embedders.request(name, || stamp_of(dir, name), load)
    }

    /// The generator `name`; like [`embedder`](Self::embedder).
    pub fn generator(
        &self,
        name: Option<&str>,
        is_disconnected: impl Fn() -> bool,
    ) -> Result<Arc<RunningService<GenerationService>>, Failure> {
        #[cfg(not(feature = "diffusion"))]
        GeneratorConfig::read(self.model_dir()?, name.unwrap_or_default())?;
        let dir = self.model_dir()?;
        let name = self.names.resolve(dir, name, Purpose::Generation)?;
        let load = {
            let (loader, memory) = (Arc::clone(&self.loader), Arc::clone(&self.memory));
            let (dir, name) = (dir.to_owned(), name.clone());
            move || {
                let room = memory.for_generator(&dir, &name);
                Ok(loader.generator(&dir, &name)?.with_room(room))
            }
        };
        self.generators.get(&name, || stamp_of(dir, &name), load, is_disconnected)
    }

    /// Limits of decoding images, which all models share.
    pub fn decoding(&self) -> &Decoding {
        self.loader.decoding()
    }

    /// Describes every model of the directory, sorted by name. Waits for no load.
    pub fn list(&self) -> Result<Vec<Model>, Failure> {
        let dir = self.model_dir()?;
        let unloaded = |name: &str, purpose: Purpose, status: &dyn Fn(Option<[u8; 32]>) -> Option<String>| {
            let stamp = onnx::stamp(dir, name);
            let stuck = self.loader.stuck(name, stamp).map(|failure| failure.message);
            let model = self.descriptions.get(dir, name, purpose, stamp);
            let status = status(stamp.map(|stamp| stamp.digest));
            Model { error: stuck.or(status).or(model.error), ..model }
        };
        let mut models: Vec<Model> = Vec::new();
        for name in self.names.list(dir, Purpose::Embedding)? {
            models.push(match self.embedders.state(&name) {
                ModelState::Ready(running) if !self.embedders.is_outdated(&name, stamp_of(dir, &name)) => {
                    self.describe(&running.model)
                }
                other => unloaded(&name, Purpose::Embedding, &|stamp| other.status(stamp)),
            });
        }
        for name in self.names.list(dir, Purpose::Generation)? {
            models.push(match self.generators.state(&name) {
                ModelState::Ready(running) => self.describe_generator(&running),
                other => unloaded(&name, Purpose::Generation, &|stamp| other.status(stamp)),
            });
        }
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(models)
    }

    /// Whether an activity has exceeded its limit. If so, records its model and fails the requests that wait for the
    /// model to load.
    pub fn find_stuck(&self) -> bool {
        let Some(overdue) = self.loader.watchdog.overdue() else { return false };
        let failure = self.loader.give_up(&overdue);
        self.embedders.give_up(&overdue.model, &failure);
        self.generators.give_up(&overdue.model, &failure);
        true
    }

    /// Names of the loaded models with the execution provider in use, and of those being loaded or unloaded, sorted.
    /// Waits for no load.
    pub fn loaded(&self) -> Vec<String> {
        let mut models = self.embedders.names();
        models.extend(self.generators.names());
        models.extend(self.memory.unloading().into_iter().map(|name| format!("{name} (unloading)")));
        models.sort();
        models
    }

    /// Drops the waiting inputs of a connection from the queues of all models.
    pub fn forget(&self, connection: ConnectionId) {
        self.embedders.forget(connection);
        self.generators.forget(connection);
    }

    /// Unloads the models that have been idle for susx.model_idle_timeout.
    pub fn unload_idle(&self) {
        let timeout = self.loader.settings.model_idle_timeout();
        let unloaded = unload(self.embedders.take_idle(timeout)) + unload(self.generators.take_idle(timeout));
        if unloaded > 0 {
            memory::release_free_memory();
        }
    }

    /// Describes a loaded embedding model.
    pub fn describe(&self, model: &ClipModel) -> Model {
        Model {
            dimensions: u32::try_from(model.dimensions()).ok(),
            provider: Some(model.provider().to_owned()),
            loaded: true,
            sha256: Some(model.sha256()),
            error: self.warnings(model),
            bytes: Some(model.bytes()),
            kind: Some(model.kind().to_string()),
            broken: model.config().broken.first().cloned().map(Failure::from),
            ..describe_check(model.check())
        }
    }

    /// Warnings about a loaded model, if any.
    fn warnings(&self, model: &ClipModel) -> Option<String> {
        let changed = model.has_changed_on_disk().then(|| CHANGED_ON_DISK.to_owned());
        let warnings: Vec<String> = changed
            .into_iter()
            .chain(model.check().error())
            .chain(self.loader.fallback_warning(model.fallback_reason(), model.partial_fallback()))
            .collect();
        (!warnings.is_empty()).then(|| warnings.join("; "))
    }

    /// Describes a loaded generator.
    pub fn describe_generator(&self, service: &GenerationService) -> Model {
        let generator = &service.generator;
        Model {
            provider: Some(generator.provider().to_owned()),
            loaded: true,
            sha256: Some(generator.sha256()),
            error: self.loader.fallback_warning(generator.fallback_reason(), generator.partial_fallback()),
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

/// Drops models, which frees their memory once no request uses them; returns their number.
fn unload<M: Service>(models: Vec<(String, Arc<RunningService<M>>)>) -> usize {
    let count = models.len();
    for (name, model) in models {
        drop(model);
        log::info!("unloaded model \"{name}\", which was not used for susx.model_idle_timeout");
    }
    count
}
