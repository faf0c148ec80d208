//! Loaded models by their names: each is loaded once, when it is first asked for, and unloaded when it was
//! not used for long.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::batching::fair_queue::ConnectionId;
use crate::batching::service::{RunningService, Service, cannot_start};
use crate::models::pending_load::PendingLoad;
use crate::protocol::{Failure, FailureKind};

/// The models of one kind.
#[derive(Debug)]
pub struct ModelCache<M: Service> {
    /// Locked for a look-up, and never while a model is loaded.
    entries: Mutex<HashMap<String, Entry<M>>>,
}

#[derive(Debug)]
enum Entry<M: Service> {
    /// By a thread of its own.
    Loading(Arc<PendingLoad<M>>),
    Ready {
        model: Arc<RunningService<M>>,
        /// When it was last asked for or seen at work.
        used: Instant,
    },
    Failed {
        failure: Failure,
        at: Instant,
        /// Of the files that were tried.
        stamp: [u8; 32],
    },
}

/// A model that cannot be loaded.
#[derive(Clone, Debug)]
pub struct LoadError {
    pub failure: Failure,
    /// Whether it is the fault of its files: then they need not be tried again so soon.
    pub is_of_files: bool,
}

impl From<Failure> for LoadError {
    fn from(failure: Failure) -> Self {
        LoadError { failure, is_of_files: false }
    }
}

/// A model as it is now.
#[derive(Debug)]
pub enum ModelState<M: Service> {
    Absent,
    /// For so long.
    Loading(Duration),
    Ready(Arc<RunningService<M>>),
    Failed(Failure),
}

impl<M: Service> ModelState<M> {
    /// What is to be said of a model that is not loaded.
    pub fn remark(&self) -> Option<String> {
        match self {
            ModelState::Loading(time) => Some(format!("it has been loading for {} s", time.as_secs())),
            ModelState::Failed(failure) => Some(failure.message.clone()),
            ModelState::Absent | ModelState::Ready(_) => None,
        }
    }
}

/// How long the failure of files that have not changed is told without trying them again. What else may be to
/// blame, memory that was short for instance, may have changed.
const REFUSED_FOR: Duration = Duration::from_secs(10);
impl<M: Service> ModelCache<M> {
    pub fn new() -> Arc<Self> {
        Arc::new(ModelCache { entries: Mutex::new(HashMap::new()) })
    }

    /// The model of that name; loads it where it is not. All who ask meanwhile wait for the same end of it, or until
    /// they `have_left`.
    ///
    /// `stamp` is of the model's files, where there are any.
    pub fn get(
        self: &Arc<Self>,
        name: &str,
        stamp: impl FnOnce() -> Option<[u8; 32]>,
        load: impl FnOnce() -> Result<RunningService<M>, LoadError> + Send + 'static,
        has_left: impl Fn() -> bool,
    ) -> Result<Arc<RunningService<M>>, Failure> {
        match lock(&self.entries).get_mut(name) {
            Some(Entry::Ready { model, used }) => {
                *used = Instant::now();
                return Ok(Arc::clone(model));
            }
            Some(Entry::Loading(_) | Entry::Failed { .. }) | None => {}
        }
        // Looking at the files takes a while, if only a short one.
        let stamp = stamp();
        let loading = {
            let mut entries = lock(&self.entries);
            match entries.get_mut(name) {
                Some(Entry::Ready { model, used }) => {
                    *used = Instant::now();
                    return Ok(Arc::clone(model));
                }
                Some(Entry::Loading(loading)) => Arc::clone(loading),
                Some(Entry::Failed { failure, at, stamp: tried })
                    if stamp == Some(*tried) && at.elapsed() < REFUSED_FOR =>
                {
                    return Err(failure.clone());
                }
                Some(Entry::Failed { .. }) | None => {
                    let loading = PendingLoad::new();
                    entries.insert(name.to_owned(), Entry::Loading(Arc::clone(&loading)));
                    self.begin(name, stamp, load, &loading, &mut entries)?;
                    loading
                }
            }
        };
        loading.wait(has_left)
    }

    /// Starts the thread that loads a model.
    fn begin(
        self: &Arc<Self>,
        name: &str,
        stamp: Option<[u8; 32]>,
        load: impl FnOnce() -> Result<RunningService<M>, LoadError> + Send + 'static,
        loading: &Arc<PendingLoad<M>>,
        entries: &mut HashMap<String, Entry<M>>,
    ) -> Result<(), Failure> {
        let (all, loading, name) = (Arc::clone(self), Arc::clone(loading), name.to_owned());
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
                all.end(&name, stamp, result, &loading);
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

    fn end(
        &self,
        name: &str,
        stamp: Option<[u8; 32]>,
        result: Result<RunningService<M>, LoadError>,
        loading: &Arc<PendingLoad<M>>,
    ) {
        let mut entries = lock(&self.entries);
        // It may have been given up meanwhile.
        if !matches!(entries.get(name), Some(Entry::Loading(current)) if Arc::ptr_eq(current, loading)) {
            return;
        }
        let result = match result {
            Ok(model) => {
                let model = Arc::new(model);
                let entry = Entry::Ready { model: Arc::clone(&model), used: Instant::now() };
                entries.insert(name.to_owned(), entry);
                Ok(model)
            }
            Err(LoadError { failure, is_of_files }) => {
                // Whoever asks for names that are no model's leaves nothing behind.
                match stamp.filter(|_| is_of_files) {
                    Some(stamp) => {
                        let entry = Entry::Failed { failure: failure.clone(), at: Instant::now(), stamp };
                        entries.insert(name.to_owned(), entry);
                    }
                    None => drop(entries.remove(name)),
                }
                Err(failure)
            }
        };
        drop(entries);
        loading.tell(result);
    }

    /// Tells those who wait for a model that it is not to be had; whether any may have waited.
    pub fn give_up(&self, name: &str, failure: &Failure) -> bool {
        let mut entries = lock(&self.entries);
        let Some(Entry::Loading(loading)) = entries.get(name) else { return false };
        let loading = Arc::clone(loading);
        entries.remove(name);
        drop(entries);
        loading.tell(Err(failure.clone()));
        true
    }

    /// What there is of a model. Waits for nothing, and is no use of it.
    pub fn look(&self, name: &str) -> ModelState<M> {
        match lock(&self.entries).get(name) {
            None => ModelState::Absent,
            Some(Entry::Loading(loading)) => ModelState::Loading(loading.time()),
            Some(Entry::Ready { model, .. }) => ModelState::Ready(Arc::clone(model)),
            Some(Entry::Failed { failure, .. }) => ModelState::Failed(failure.clone()),
        }
    }

    /// The models that are loaded, with the provider that each really runs on, and those that are being
    /// loaded. Waits for none of them.
    pub fn names(&self) -> Vec<String> {
        let name = |(name, entry): (&String, &Entry<M>)| match entry {
            Entry::Ready { model, .. } => Some(format!("{name} ({})", model.provider())),
            Entry::Loading(_) => Some(format!("{name} (loading)")),
            Entry::Failed { .. } => None,
        };
        lock(&self.entries).iter().filter_map(name).collect()
    }

    /// Drops what a connection has waiting.
    pub fn forget(&self, connection: ConnectionId) {
        for (_, model) in self.ready() {
            model.forget(connection);
        }
    }

    /// Takes out the models that were idle for so long, by their names. They are unloaded as they are dropped,
    /// or when the last of those who have asked for them a moment ago has what it wanted.
    pub fn take_idle(&self, timeout: Duration) -> Vec<(String, Arc<RunningService<M>>)> {
        let mut idle = Vec::new();
        for (name, seen) in self.ready() {
            let is_idle = seen.is_idle();
            let mut entries = lock(&self.entries);
            let Some(Entry::Ready { model, used }) = entries.get_mut(&name) else { continue };
            if !is_idle {
                *used = Instant::now();
            } else if used.elapsed() >= timeout && Arc::ptr_eq(model, &seen) {
                entries.remove(&name);
                idle.push((name, seen));
            }
        }
        idle
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
