//! The models of the model directory: which there are, and those that are loaded.

use std::path::Path;
use std::sync::Arc;

use susx_core::clip::{self, ClipModel, ModelConfig};
use susx_core::sus::diffusion::GeneratorConfig;

use crate::described::Described;
use crate::embedder::Embedder;
use crate::loader::Loader;
use crate::memory;
use crate::names::{Kind, Names};
use crate::painter::Painter;
use crate::protocol::{Failure, FailureKind, Model};
use crate::queue::ConnectionId;
use crate::running::{Loaded, Running};
use crate::settings::Settings;
use crate::slots::{Look, Slots};

/// Loads models when they are asked for.
pub struct Registry {
    loader: Arc<Loader>,
    embedders: Arc<Slots<Embedder>>,
    painters: Arc<Slots<Painter>>,
    names: Names,
    described: Described,
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
            embedders: Slots::new(),
            painters: Slots::new(),
            names: Names::default(),
            described: Described::default(),
        }
    }

    /// The embedding model of that name, loaded; without a name, the only one there is. Waits for it until the one
    /// who asks `has_left`.
    pub fn embedder(
        &self,
        name: Option<&str>,
        has_left: impl Fn() -> bool,
    ) -> Result<Arc<Running<Embedder>>, Failure> {
        let dir = self.model_dir()?;
        let name = self.names.resolve(dir, name, Kind::Embedder)?;
        let load = {
            let (loader, dir, name) = (Arc::clone(&self.loader), dir.to_owned(), name.clone());
            move || loader.embedder(&dir, &name)
        };
        self.embedders.get(&name, || stamp_of(dir, &name), load, has_left)
    }

    /// The generator of that name, in the same way.
    pub fn painter(
        &self,
        name: Option<&str>,
        has_left: impl Fn() -> bool,
    ) -> Result<Arc<Running<Painter>>, Failure> {
        let dir = self.model_dir()?;
        let name = self.names.resolve(dir, name, Kind::Generator)?;
        let load = {
            let (loader, dir, name) = (Arc::clone(&self.loader), dir.to_owned(), name.clone());
            move || loader.painter(&dir, &name)
        };
        self.painters.get(&name, || stamp_of(dir, &name), load, has_left)
    }

    /// Every model of the directory, in the order of their names. Waits for none of them.
    pub fn list(&self) -> Result<Vec<Model>, Failure> {
        let dir = self.model_dir()?;
        let unloaded = |name: &str, kind: Kind, state: Option<String>| {
            let stamp = clip::stamp(dir, name);
            let stuck = self.loader.stuck(name, stamp).map(|failure| failure.message);
            let model = self.described.get(dir, name, kind, stamp);
            Model { error: stuck.or(state).or(model.error), ..model }
        };
        let mut models: Vec<Model> = Vec::new();
        for name in self.names.of(dir, Kind::Embedder)? {
            models.push(match self.embedders.look(&name) {
                Look::Ready(running) => self.describe(&running.model),
                other => unloaded(&name, Kind::Embedder, other.remark()),
            });
        }
        for name in self.names.of(dir, Kind::Generator)? {
            models.push(match self.painters.look(&name) {
                Look::Ready(running) => self.describe_generator(&running),
                other => unloaded(&name, Kind::Generator, other.remark()),
            });
        }
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(models)
    }

    /// Looks for a model that the process is stuck in, and tells those who wait for it. Whether there is one.
    pub fn find_stuck(&self) -> bool {
        let Some(overdue) = self.loader.watch.look() else { return false };
        let failure = self.loader.give_up(&overdue);
        self.embedders.give_up(&overdue.model, &failure);
        self.painters.give_up(&overdue.model, &failure);
        true
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
        let timeout = self.loader.settings.model_idle_timeout();
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
            .chain(self.loader.broken_promise(model.fallback_reason(), model.elsewhere()))
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
            error: self.loader.broken_promise(generator.fallback_reason(), generator.elsewhere()),
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
    clip::stamp(dir, name).map(|stamp| stamp.digest)
}

pub(crate) fn describe_config(config: &ModelConfig) -> Model {
    Model {
        name: config.name.clone(),
        kind: Some(config.kind().to_string()),
        dimensions: config.projection_dim.and_then(|d| u32::try_from(d).ok()),
        image_size: config
            .image_size()
            .and_then(|(height, width)| Some((u32::try_from(height).ok()?, u32::try_from(width).ok()?))),
        bytes: config.bytes().ok(),
        defaults: config.defaults,
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
fn unload<M: Loaded>(models: Vec<(String, Arc<Running<M>>)>) -> usize {
    let count = models.len();
    for (name, model) in models {
        drop(model);
        log::info!("unloaded model \"{name}\", which was not used for susx.model_idle_timeout");
    }
    count
}
