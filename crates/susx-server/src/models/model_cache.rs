//! Cache of loaded models by name. A model is loaded on first use, once for all requests, and unloaded when idle.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::batching::fair_queue::ConnectionId;
use crate::batching::service::{RunningService, Service, cannot_start};
use crate::models::pending_load::{PendingLoad, Requested};
use crate::protocol::{Failure, FailureKind};

/// The models of one kind.
#[derive(Debug)]
pub struct ModelCache<M: Service> {
    /// Never locked during a load.
    entries: Mutex<HashMap<String, Entry<M>>>,
}

#[derive(Debug)]
enum Entry<M: Service> {
    /// A thread is loading it.
    Loading(Arc<PendingLoad<M>>),
    Ready {
        model: Arc<RunningService<M>>,
        /// When it was loaded.
        loaded: Instant,
        /// When it was last requested or seen busy.
        used: Instant,
        /// Stamp of the files that it was loaded from.
        stamp: Option<[u8; 32]>,
    },
    Failed {
        failure: Failure,
        at: Instant,
        /// Stamp of the files that failed to load.
        stamp: [u8; 32],
        /// Whether they caused it, so that the next request is likely to fail, too.
        is_caused_by_files: bool,
    },
}

/// A loaded model, as far as it matters for whether to unload it.
#[derive(Debug)]
pub struct Unloadable {
    pub name: String,
    /// Whether it has inputs, or a request is about to give it some.
    pub is_busy: bool,
    pub loaded: Instant,
    /// When it was last requested.
    pub used: Instant,
}

/// A model that cannot be loaded.
#[derive(Clone, Debug)]
pub struct LoadError {
    pub failure: Failure,
    /// Whether the model's files caused it, so that another try with the same files is likely to fail, too.
    pub is_caused_by_files: bool,
}

impl From<Failure> for LoadError {
    fn from(failure: Failure) -> Self {
        LoadError { failure, is_caused_by_files: false }
    }
}

/// Current state of a model in the cache.
#[derive(Debug)]
pub enum ModelState<M: Service> {
    Absent,
    /// With the time since the load started.
    Loading(Duration),
    Ready(Arc<RunningService<M>>),
    /// With the stamp of the files that failed to load.
    Failed(Failure, [u8; 32]),
}

impl<M: Service> ModelState<M> {
    /// Status text of a model that is loading, or whose files, which have this stamp, failed to load.
    pub fn status(&self, stamp: Option<[u8; 32]>) -> Option<String> {
        match self {
            ModelState::Loading(time) => Some(format!("it has been loading for {} s", time.as_secs())),
            ModelState::Failed(failure, tried) if stamp == Some(*tried) => Some(failure.message.clone()),
            ModelState::Absent | ModelState::Ready(_) | ModelState::Failed(..) => None,
        }
    }
}

/// How long a failed load of unchanged files is reported without another try. Not forever, because a shortage of
/// memory, for example, may have caused it.
const RETRY_AFTER: Duration = Duration::from_secs(10);

impl<M: Service> ModelCache<M> {
    /// An empty cache.
    pub fn new() -> Arc<Self> {
        Arc::new(ModelCache { entries: Mutex::new(HashMap::new()) })
    }

    /// Returns the model `name`, and loads it first if necessary. Waits for the load until `is_disconnected`, and fails
    /// with its failure; see [`request`](Self::request).
    pub fn get(
        self: &Arc<Self>,
        name: &str,
        stamp: impl FnOnce() -> Option<[u8; 32]>,
        load: impl FnOnce() -> Result<RunningService<M>, LoadError> + Send + 'static,
        is_disconnected: impl Fn() -> bool,
    ) -> Result<Arc<RunningService<M>>, Failure> {
        self.request(name, stamp, load)?.wait(is_disconnected)
    }

    /// Returns the model `name`, or starts to load it if necessary. Requests for a model that is being loaded share
    /// that load. Never waits for a load. A model of which only a part could be loaded is loaded again when its files have
    /// changed.
    ///
    /// `stamp` identifies the state of the model's files; `None` if there are none. Fails with the failure of a recent
    /// load of the same files.
    pub fn request(
        self: &Arc<Self>,
        name: &str,
        stamp: impl FnOnce() -> Option<[u8; 32]>,
        load: impl FnOnce() -> Result<RunningService<M>, LoadError> + Send + 'static,
    ) -> Result<Requested<M>, Failure> {
        match lock(&self.entries).get_mut(name) {
            Some(Entry::Ready { model, used, .. }) if !model.is_incomplete() => {
                *used = Instant::now();
                return Ok(Requested::Ready(Arc::clone(model)));
            }
            Some(Entry::Ready { .. } | Entry::Loading(_) | Entry::Failed { .. }) | None => {}
        }
        // Computed without the lock, because it reads the file system.
        let stamp = stamp();
        let mut entries = lock(&self.entries);
        match entries.get_mut(name) {
            Some(Entry::Ready { model, used, stamp: of_loaded, .. })
                if !model.is_incomplete() || *of_loaded == stamp =>
            {
                *used = Instant::now();
                Ok(Requested::Ready(Arc::clone(model)))
            }
            Some(Entry::Loading(loading)) => Ok(Requested::Loading(Arc::clone(loading))),
            Some(Entry::Failed { failure, at, stamp: tried, is_caused_by_files: true })
                if stamp == Some(*tried) && at.elapsed() < RETRY_AFTER =>
            {
                Err(failure.clone())
            }
            Some(Entry::Ready { .. } | Entry::Failed { .. }) | None => {
                let loading = PendingLoad::new();
                let before = entries.insert(name.to_owned(), Entry::Loading(Arc::clone(&loading)));
                if let Some(Entry::Ready { model, .. }) = &before {
                    model.leave();
                }
                let started = self.start_load(name, stamp, load, &loading, &mut entries);
                // Unloading a model waits for its tasks, which must not keep the lock.
                drop(entries);
                drop(before);
                started?;
                Ok(Requested::Loading(loading))
            }
        }
    }

    /// Starts the thread that loads a model.
    fn start_load(
        self: &Arc<Self>,
        name: &str,
        stamp: Option<[u8; 32]>,
        load: impl FnOnce() -> Result<RunningService<M>, LoadError> + Send + 'static,
        loading: &Arc<PendingLoad<M>>,
        entries: &mut HashMap<String, Entry<M>>,
    ) -> Result<(), Failure> {
        let (cache, loading, name) = (Arc::clone(self), Arc::clone(loading), name.to_owned());
        let work = {
            let name = name.clone();
            move || {
                let result = catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|_| {
                    Err(Failure::new(
                        FailureKind::Inference,
                        format!("loading the model \"{name}\" panicked"),
                    )
                    .into())
                });
                cache.finish_load(&name, stamp, result, &loading);
            }
        };
        match thread::Builder::new().name("load".to_owned()).spawn(work) {
            Ok(_) => Ok(()),
            Err(error) => {
                entries.remove(&name);
                Err(cannot_start(&error))
            }
        }
    }

    /// Stores the outcome of a load and wakes the requests that wait for it.
    fn finish_load(
        &self,
        name: &str,
        stamp: Option<[u8; 32]>,
        result: Result<RunningService<M>, LoadError>,
        loading: &Arc<PendingLoad<M>>,
    ) {
        let mut entries = lock(&self.entries);
        // The watchdog may have given up this load.
        if !matches!(entries.get(name), Some(Entry::Loading(current)) if Arc::ptr_eq(current, loading)) {
            return;
        }
        let result = match result {
            Ok(model) => {
                let model = Arc::new(model);
                let now = Instant::now();
                let entry = Entry::Ready { model: Arc::clone(&model), loaded: now, used: now, stamp };
                entries.insert(name.to_owned(), entry);
                Ok(model)
            }
            Err(LoadError { failure, is_caused_by_files }) => {
                // Unknown names have no stamp and leave no entry behind.
                match stamp {
                    Some(stamp) => {
                        let (failure, at) = (failure.clone(), Instant::now());
                        let entry = Entry::Failed { failure, at, stamp, is_caused_by_files };
                        entries.insert(name.to_owned(), entry);
                    }
                    None => drop(entries.remove(name)),
                }
                Err(failure)
            }
        };
        drop(entries);
        loading.finish(result);
    }

    /// Fails the requests that wait for a model's load; returns whether there was a load.
    pub fn give_up(&self, name: &str, failure: &Failure) -> bool {
        let mut entries = lock(&self.entries);
        let Some(Entry::Loading(loading)) = entries.get(name) else { return false };
        let loading = Arc::clone(loading);
        entries.remove(name);
        drop(entries);
        loading.finish(Err(failure.clone()));
        true
    }

    /// Current state of a model. Never waits, and does not count as use.
    pub fn state(&self, name: &str) -> ModelState<M> {
        match lock(&self.entries).get(name) {
            None => ModelState::Absent,
            Some(Entry::Loading(loading)) => ModelState::Loading(loading.elapsed()),
            Some(Entry::Ready { model, .. }) => ModelState::Ready(Arc::clone(model)),
            Some(Entry::Failed { failure, stamp, .. }) => ModelState::Failed(failure.clone(), *stamp),
        }
    }

    /// Whether only a part of a model is loaded, and its files, which have this stamp now, have changed since.
    pub fn is_outdated(&self, name: &str, stamp: Option<[u8; 32]>) -> bool {
        matches!(
            lock(&self.entries).get(name),
            Some(Entry::Ready { model, stamp: of_loaded, .. }) if model.is_incomplete() && *of_loaded != stamp
        )
    }

    /// Names of the loaded models with the execution provider in use, and of those being loaded. Never waits.
    pub fn names(&self) -> Vec<String> {
        let name = |(name, entry): (&String, &Entry<M>)| match entry {
            Entry::Ready { model, .. } => Some(format!("{name} ({})", model.provider())),
            Entry::Loading(_) => Some(format!("{name} (loading)")),
            Entry::Failed { .. } => None,
        };
        lock(&self.entries).iter().filter_map(name).collect()
    }

    /// Drops the waiting inputs of a connection.
    pub fn forget(&self, connection: ConnectionId) {
        for (_, model) in self.ready() {
            model.forget(connection);
        }
    }

    /// Removes the models that have been idle for `timeout` and returns them with their names. A model is unloaded
    /// when the last reference to it is dropped, so requests that have just got it are still answered.
    pub fn take_idle(&self, timeout: Duration) -> Vec<(String, Arc<RunningService<M>>)> {
        let mut idle = Vec::new();
        for (name, seen) in self.ready() {
            let is_idle = seen.is_idle();
            let mut entries = lock(&self.entries);
            let Some(Entry::Ready { model, used, .. }) = entries.get_mut(&name) else { continue };
            if !is_idle {
                *used = Instant::now();
            } else if used.elapsed() >= timeout && Arc::ptr_eq(model, &seen) {
                entries.remove(&name);
                idle.push((name, seen));
            }
        }
        idle
    }

    /// The loaded models, as far as it matters for which of them to unload.
    pub fn unloadable(&self) -> Vec<Unloadable> {
        let ready = |(name, entry): (&String, &Entry<M>)| match entry {
            Entry::Ready { model, loaded, used, .. } => {
                Some((name.clone(), Arc::clone(model), *loaded, *used))
            }
            _ => None,
        };
        let models: Vec<_> = lock(&self.entries).iter().filter_map(ready).collect();
        let unloadable = |(name, model, loaded, used): (String, Arc<RunningService<M>>, Instant, Instant)| {
            // One reference is the cache's and one is this.
            let is_busy = !model.is_idle() || Arc::strong_count(&model) > 2;
            Unloadable { name, is_busy, loaded, used }
        };
        models.into_iter().map(unloadable).collect()
    }

    /// Removes a loaded model, which the next request for it loads again. It is unloaded when the last reference to it
    /// is dropped.
    pub fn remove(&self, name: &str) -> Option<Arc<RunningService<M>>> {
        let mut entries = lock(&self.entries);
        match entries.remove(name) {
            Some(Entry::Ready { model, .. }) => Some(model),
            Some(other) => {
                entries.insert(name.to_owned(), other);
                None
            }
            None => None,
        }
    }

    fn ready(&self) -> Vec<(String, Arc<RunningService<M>>)> {
        let ready = |(name, entry): (&String, &Entry<M>)| match entry {
            Entry::Ready { model, .. } => Some((name.clone(), Arc::clone(model))),
            _ => None,
        };
        lock(&self.entries).iter().filter_map(ready).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The state is valid after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
