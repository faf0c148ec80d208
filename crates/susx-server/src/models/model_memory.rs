//! susx.model_memory: unloads models before another is loaded, so that all together have at most this many bytes.
//!
//! Idle models go first, the least recently used one before the others. If only models in use are left, those that have
//! been loaded for [`TURN`] go: they answer the inputs that they have, and their sessions' next inputs have them loaded
//! again. So sessions whose models do not fit together take turns.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::batching::embedding_service::EmbeddingService;
use crate::batching::generation_service::GenerationService;
use crate::batching::service::{RunningService, Service};
use crate::memory;
use crate::models::ledger::{Ledger, Need, Room, Verdict};
use crate::models::loader::Loader;
use crate::models::model_cache::{ModelCache, Unloadable};

/// How long a model in use stays, at least.
const TURN: Duration = Duration::from_secs(10);
/// A model that was used within this time is in use: its session may be about to send the next input.
const LULL: Duration = Duration::from_millis(250);
/// How long a load waits for room. A batch of images may take minutes to generate.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two looks at the models in use.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The limit of the memory for models, and the models.
pub struct ModelMemory {
    /// In bytes; `None` for no limit.
    limit: Option<u64>,
    loader: Arc<Loader>,
    embedders: Arc<ModelCache<EmbeddingService>>,
    generators: Arc<ModelCache<GenerationService>>,
    ledger: Arc<Ledger>,
}

impl ModelMemory {
    /// The memory for the models of these caches.
    pub fn new(
        loader: &Arc<Loader>,
        embedders: &Arc<ModelCache<EmbeddingService>>,
        generators: &Arc<ModelCache<GenerationService>>,
    ) -> Arc<Self> {
        Arc::new(ModelMemory {
            limit: loader.settings.model_memory(),
            loader: Arc::clone(loader),
            embedders: Arc::clone(embedders),
            generators: Arc::clone(generators),
            ledger: Arc::default(),
        })
    }

    /// Makes room for an embedding model; `beside` is another one that the same request needs.
    pub fn for_embedder(&self, dir: &Path, name: &str, beside: Option<&str>) -> Room {
        let bytes = |name| if self.limit.is_some() { self.loader.embedder_bytes(dir, name) } else { 0 };
        let beside = beside.map(|beside| (beside, bytes(beside)));
        self.make_room(&Need { model: name, bytes: bytes(name), beside })
    }

    /// Makes room for a generator.
    pub fn for_generator(&self, dir: &Path, name: &str) -> Room {
        let bytes = if self.limit.is_some() { self.loader.generator_bytes(dir, name) } else { 0 };
        self.make_room(&Need { model: name, bytes, beside: None })
    }

    /// Names of the models that are unloaded as soon as they have answered their inputs.
    pub fn unloading(&self) -> Vec<String> {
        self.ledger.leaving()
    }

    /// Unloads models until this one fits. If models in use leave no room for [`PATIENCE`], it gets room all the same:
    /// a call that waits for ever would be worse than a limit that is exceeded.
    fn make_room(&self, need: &Need) -> Room {
        let Some(limit) = self.limit else { return self.ledger.force(need) };
        let end = Instant::now() + PATIENCE;
        let mut has_waited = false;
        loop {
            match self.ledger.request(need, limit) {
                Verdict::Granted(room) => {
                    if has_waited {
                        memory::release_free_memory();
                    }
                    return room;
                }
                Verdict::Unload if self.unload_one(need) => {}
                Verdict::Unload | Verdict::Wait if Instant::now() >= end => {
                    log::warn!(
                        "loading model \"{}\" beyond susx.model_memory: the models in use have {} bytes, it has {}, and the \
                         limit is {limit}",
                        need.model,
                        self.ledger.used(),
                        need.bytes
                    );
                    return self.ledger.force(need);
                }
                Verdict::Unload | Verdict::Wait => self.ledger.wait(CHECK_INTERVAL),
            }
            has_waited = true;
        }
    }

    /// Begins to unload the model that can be missed most; false if there is none at the moment.
    fn unload_one(&self, need: &Need) -> bool {
        let stays = |name: &str| need.beside.is_some_and(|(beside, _)| beside == name);
        let (embedders, generators) = (self.embedders.unloadable(), self.generators.unloadable());
        let first = embedders.iter().chain(&generators).filter(|model| may_go(model) && !stays(&model.name));
        let Some(first) = first.min_by_key(|model| (model.is_busy, model.used)) else { return false };
        let name = first.name.as_str();
        log::info!(
            "unloading model \"{name}\" to make room for model \"{}\" (susx.model_memory)",
            need.model
        );
        // Two loads may have chosen the same model.
        if let Some(model) = self.embedders.remove(name) {
            unload(name, model);
        }
        if let Some(model) = self.generators.remove(name) {
            unload(name, model);
        }
        true
    }
}

fn may_go(model: &Unloadable) -> bool {
    let is_in_use = model.is_busy || model.used.elapsed() < LULL;
    !is_in_use || model.loaded.elapsed() >= TURN
}

/// Frees a model that is no longer in a cache, once it has answered its inputs.
fn unload<M: Service>(name: &str, model: Arc<RunningService<M>>) {
    model.leave();
    if is_unused(&model) {
        return;
    }
    let wait = {
        let model = Arc::clone(&model);
        move || {
            while !is_unused(&model) {
                thread::sleep(CHECK_INTERVAL);
            }
        }
    };
    // Not by dropping the model here, which may wait for minutes. If there is no thread, it is done so.
    if let Err(error) = thread::Builder::new().name(format!("unload {name}")).spawn(wait) {
        log::warn!("cannot start a thread: {error}");
    }
}

/// Whether this is the only reference to a model, and it has no inputs.
fn is_unused<M: Service>(model: &Arc<RunningService<M>>) -> bool {
    Arc::strong_count(model) == 1 && model.is_idle()
}
