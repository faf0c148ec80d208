//! Loaded models by their names: each is loaded once, when it is first asked for, and unloaded when it was
//! not used for long.
//!
//! A model has queues and lanes, the threads that take batches from them. They live as long as somebody
//! holds the [`Running`] model: what was sent to it before it was unloaded is answered.

use std::collections::HashMap;
use std::io;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::protocol::{Failure, FailureKind};
use crate::queue::ConnectionId;

/// A model that is loaded, with its queues.
pub trait Loaded: Send + Sync + 'static {
    /// The execution provider that it really runs on.
    fn provider(&self) -> &str;
    /// Whether nothing waits and nothing is being worked on.
    fn is_idle(&self) -> bool;
    /// Drops what a connection has waiting.
    fn forget(&self, connection: ConnectionId);
    /// Nothing more will be sent to it: its lanes end when they have answered what waits.
    fn close(&self);
}

/// A thread's name, and what it does until the model is closed.
pub type Lane<M> = (String, Box<dyn FnOnce(&M) + Send>);

/// A model and its lanes, which end with it.
#[derive(Debug)]
pub struct Running<M: Loaded> {
    model: Arc<M>,
    lanes: Vec<JoinHandle<()>>,
}

impl<M: Loaded> Running<M> {
    /// Starts the lanes.
    pub fn start(model: M, lanes: impl IntoIterator<Item = Lane<M>>) -> Result<Self, Failure> {
        let mut running = Running { model: Arc::new(model), lanes: Vec::new() };
        for lane in lanes {
            running.spawn(lane).map_err(|error| {
                Failure::new(FailureKind::Inference, format!("cannot start a thread: {error}"))
            })?;
        }
        Ok(running)
    }

    fn spawn(&mut self, (name, work): Lane<M>) -> io::Result<()> {
        let model = Arc::clone(&self.model);
        self.lanes.push(thread::Builder::new().name(name).spawn(move || work(&model))?);
        Ok(())
    }
}

impl<M: Loaded> Deref for Running<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.model
    }
}

impl<M: Loaded> Drop for Running<M> {
    fn drop(&mut self) {
        self.model.close();
        for lane in self.lanes.drain(..) {
            // A lane that has panicked has ended, too.
            let _ = lane.join();
        }
    }
}

/// The models of one kind.
#[derive(Debug)]
pub struct Slots<M: Loaded> {
    /// The outer lock is held for a look-up, a slot's own while its model is loaded: two models load
    /// at the same time, and one model once.
    slots: Mutex<HashMap<String, Arc<Mutex<Slot<M>>>>>,
}

#[derive(Debug)]
struct Slot<M: Loaded> {
    model: Option<Arc<Running<M>>>,
    /// When it was last asked for or seen at work.
    used: Instant,
}

impl<M: Loaded> Slots<M> {
    pub fn new() -> Self {
        Slots { slots: Mutex::new(HashMap::new()) }
    }

    /// The model of that name; loads it where it is not.
    pub fn get(
        &self,
        name: &str,
        load: impl FnOnce() -> Result<Running<M>, Failure>,
    ) -> Result<Arc<Running<M>>, Failure> {
        let slot = Arc::clone(lock(&self.slots).entry(name.to_owned()).or_insert_with(Slot::empty));
        let mut held = lock(&slot);
        let model = match &held.model {
            Some(model) => Arc::clone(model),
            None => match load() {
                Ok(model) => Arc::clone(held.model.insert(Arc::new(model))),
                Err(failure) => {
                    drop(held);
                    self.drop_unwanted(name, &slot);
                    return Err(failure);
                }
            },
        };
        held.used = Instant::now();
        Ok(model)
    }

    /// Whoever asks for names that are no model's leaves no slots behind.
    fn drop_unwanted(&self, name: &str, slot: &Arc<Mutex<Slot<M>>>) {
        let mut slots = lock(&self.slots);
        // Nobody else waits for it: there are the map's and the caller's.
        if Arc::strong_count(slot) == 2 && lock(slot).model.is_none() {
            slots.remove(name);
        }
    }

    /// The model of that name if it is loaded; waits while it is being loaded. That is no use of it.
    pub fn look(&self, name: &str) -> Option<Arc<Running<M>>> {
        let slot = lock(&self.slots).get(name).map(Arc::clone)?;
        lock(&slot).model.as_ref().map(Arc::clone)
    }

    /// The models that are loaded, with the provider that each really runs on, and those that are being
    /// loaded. Waits for none of them.
    pub fn names(&self) -> Vec<String> {
        let name = |(name, slot): (String, Arc<Mutex<Slot<M>>>)| match lock_soon(&slot) {
            Some(slot) => Some(format!("{name} ({})", slot.model.as_ref()?.provider())),
            None => Some(format!("{name} (loading)")),
        };
        self.all().into_iter().filter_map(name).collect()
    }

    /// Drops what a connection has waiting.
    pub fn forget(&self, connection: ConnectionId) {
        for (_, slot) in self.all() {
            // A slot that is locked is being loaded: nothing waits in its queues yet.
            let model = try_lock(&slot).and_then(|slot| slot.model.as_ref().map(Arc::clone));
            if let Some(model) = model {
                model.forget(connection);
            }
        }
    }

    /// Takes out the models that were idle for so long, by their names. They are unloaded as they are dropped,
    /// or when the last of those who have asked for them a moment ago has what it wanted.
    pub fn take_idle(&self, timeout: Duration) -> Vec<(String, Arc<Running<M>>)> {
        let mut idle = Vec::new();
        for (name, slot) in self.all() {
            // One that is locked is in use.
            let Some(mut slot) = try_lock(&slot) else { continue };
            if slot.model.as_ref().is_some_and(|model| !model.is_idle()) {
                slot.used = Instant::now();
            } else if slot.used.elapsed() >= timeout {
                idle.extend(slot.model.take().map(|model| (name, model)));
            }
        }
        idle
    }

    fn all(&self) -> Vec<(String, Arc<Mutex<Slot<M>>>)> {
        lock(&self.slots).iter().map(|(name, slot)| (name.clone(), Arc::clone(slot))).collect()
    }
}

impl<M: Loaded> Slot<M> {
    fn empty() -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Slot { model: None, used: Instant::now() }))
    }
}

/// `None` where somebody has it for more than a look-up.
fn lock_soon<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    for _ in 0..20 {
        if let Some(guard) = try_lock(mutex) {
            return Some(guard);
        }
        thread::sleep(Duration::from_millis(1));
    }
    None
}

fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic while loading leaves behind is an empty slot, which is valid.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{Batching, FairQueue};
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Model {
        queue: FairQueue<u32>,
        /// What its lane has done.
        sum: Arc<AtomicUsize>,
    }

    impl Loaded for Model {
        fn provider(&self) -> &str {
            "test"
        }

        fn is_idle(&self) -> bool {
            self.queue.is_idle()
        }

        fn forget(&self, connection: ConnectionId) {
            self.queue.forget(connection);
        }

        fn close(&self) {
            self.queue.close();
        }
    }

    /// A model whose lane adds up numbers once the gate is open.
    fn model(sum: &Arc<AtomicUsize>, gate: &Arc<Mutex<()>>) -> Result<Running<Model>, Failure> {
        let queue = FairQueue::new(Batching { size: 1, delay: Duration::ZERO });
        let gate = Arc::clone(gate);
        let lane = move |model: &Model| {
            while let Some(batch) = model.queue.take(1) {
                drop(lock(&gate));
                for taken in &batch {
                    model.sum.fetch_add(taken.content as usize, Ordering::SeqCst);
                }
                model.queue.done(batch.iter().map(|taken| taken.connection));
            }
        };
        let lanes: [Lane<Model>; 1] = [("lane".to_owned(), Box::new(lane))];
        Running::start(Model { queue, sum: Arc::clone(sum) }, lanes)
    }

    #[test]
    fn idle_models_are_unloaded_and_busy_ones_are_not() {
        let (slots, sum, gate) = (Slots::new(), Arc::default(), Arc::default());
        let load = || slots.get("m", || model(&sum, &gate));
        let running = load();
        let first = running.as_ref().map(Arc::as_ptr).ok();
        assert_eq!(load().as_ref().map(Arc::as_ptr).ok(), first, "loaded once");
        assert_eq!(slots.names(), ["m (test)"]);
        assert!(slots.take_idle(Duration::from_secs(60)).is_empty());
        let closed = lock(&gate);
        if let Ok(running) = &running {
            running.queue.push(1, [5, 6]);
        }
        assert!(slots.take_idle(Duration::ZERO).is_empty(), "it is at work");
        drop(closed);
        // Somebody has just asked for it: what it sends is answered.
        let mut idle = Vec::new();
        while idle.is_empty() {
            idle = slots.take_idle(Duration::ZERO);
        }
        assert!(slots.names().is_empty() && slots.look("m").is_none());
        drop(idle);
        if let Ok(running) = &running {
            running.queue.push(1, [100]);
        }
        // Waits for the lane.
        drop(running);
        assert_eq!(sum.load(Ordering::SeqCst), 111);
        assert!(load().is_ok_and(|again| again.is_idle()), "loaded again");
    }
}
