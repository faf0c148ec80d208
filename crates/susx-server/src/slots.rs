//! Loaded models by their names: each is loaded once, when it is first asked for, and unloaded when it was
//! not used for long.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::loading::Loading;
use crate::protocol::{Failure, FailureKind};
use crate::queue::ConnectionId;
use crate::running::{Loaded, Running, cannot_start};

/// The models of one kind.
#[derive(Debug)]
pub struct Slots<M: Loaded> {
    /// Locked for a look-up, and never while a model is loaded.
    slots: Mutex<HashMap<String, Slot<M>>>,
}

#[derive(Debug)]
enum Slot<M: Loaded> {
    /// By a thread of its own.
    Loading(Arc<Loading<M>>),
    Ready {
        model: Arc<Running<M>>,
        /// When it was last asked for or seen at work.
        used: Instant,
    },
    Refused {
        failure: Failure,
        at: Instant,
        /// Of the files that were tried.
        stamp: [u8; 32],
    },
}

/// A model that cannot be loaded.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub failure: Failure,
    /// Whether it is the fault of its files: then they need not be tried again so soon.
    pub is_of_files: bool,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Refusal { failure, is_of_files: false }
    }
}

/// A model as it is now.
#[derive(Debug)]
pub enum Look<M: Loaded> {
    Absent,
    /// For so long.
    Loading(Duration),
    Ready(Arc<Running<M>>),
    Refused(Failure),
}

impl<M: Loaded> Look<M> {
    /// What is to be said of a model that is not loaded.
    pub fn remark(&self) -> Option<String> {
        match self {
            Look::Loading(time) => Some(format!("it has been loading for {} s", time.as_secs())),
            Look::Refused(failure) => Some(failure.message.clone()),
            Look::Absent | Look::Ready(_) => None,
        }
    }
}

/// How long the failure of files that have not changed is told without trying them again. What else may be to
/// blame, memory that was short for instance, may have changed.
const REFUSED_FOR: Duration = Duration::from_secs(10);
impl<M: Loaded> Slots<M> {
    pub fn new() -> Arc<Self> {
        Arc::new(Slots { slots: Mutex::new(HashMap::new()) })
    }

    /// The model of that name; loads it where it is not. All who ask meanwhile wait for the same end of it, or until
    /// they `have_left`.
    ///
    /// `stamp` is of the model's files, where there are any.
    pub fn get(
        self: &Arc<Self>,
        name: &str,
        stamp: impl FnOnce() -> Option<[u8; 32]>,
        load: impl FnOnce() -> Result<Running<M>, Refusal> + Send + 'static,
        has_left: impl Fn() -> bool,
    ) -> Result<Arc<Running<M>>, Failure> {
        match lock(&self.slots).get_mut(name) {
            Some(Slot::Ready { model, used }) => {
                *used = Instant::now();
                return Ok(Arc::clone(model));
            }
            Some(Slot::Loading(_) | Slot::Refused { .. }) | None => {}
        }
        // Looking at the files takes a while, if only a short one.
        let stamp = stamp();
        let loading = {
            let mut slots = lock(&self.slots);
            match slots.get_mut(name) {
                Some(Slot::Ready { model, used }) => {
                    *used = Instant::now();
                    return Ok(Arc::clone(model));
                }
                Some(Slot::Loading(loading)) => Arc::clone(loading),
                Some(Slot::Refused { failure, at, stamp: tried })
                    if stamp == Some(*tried) && at.elapsed() < REFUSED_FOR =>
                {
                    return Err(failure.clone());
                }
                Some(Slot::Refused { .. }) | None => {
                    let loading = Loading::new();
                    slots.insert(name.to_owned(), Slot::Loading(Arc::clone(&loading)));
                    self.begin(name, stamp, load, &loading, &mut slots)?;
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
        load: impl FnOnce() -> Result<Running<M>, Refusal> + Send + 'static,
        loading: &Arc<Loading<M>>,
        slots: &mut HashMap<String, Slot<M>>,
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
                slots.remove(&name);
                Err(cannot_start(&error))
            }
        }
    }

    fn end(
        &self,
        name: &str,
        stamp: Option<[u8; 32]>,
        result: Result<Running<M>, Refusal>,
        loading: &Arc<Loading<M>>,
    ) {
        let mut slots = lock(&self.slots);
        // It may have been given up meanwhile.
        if !matches!(slots.get(name), Some(Slot::Loading(current)) if Arc::ptr_eq(current, loading)) {
            return;
        }
        let result = match result {
            Ok(model) => {
                let model = Arc::new(model);
                let slot = Slot::Ready { model: Arc::clone(&model), used: Instant::now() };
                slots.insert(name.to_owned(), slot);
                Ok(model)
            }
            Err(Refusal { failure, is_of_files }) => {
                // Whoever asks for names that are no model's leaves nothing behind.
                match stamp.filter(|_| is_of_files) {
                    Some(stamp) => {
                        let slot = Slot::Refused { failure: failure.clone(), at: Instant::now(), stamp };
                        slots.insert(name.to_owned(), slot);
                    }
                    None => drop(slots.remove(name)),
                }
                Err(failure)
            }
        };
        drop(slots);
        loading.tell(result);
    }

    /// Tells those who wait for a model that it is not to be had; whether any may have waited.
    pub fn give_up(&self, name: &str, failure: &Failure) -> bool {
        let mut slots = lock(&self.slots);
        let Some(Slot::Loading(loading)) = slots.get(name) else { return false };
        let loading = Arc::clone(loading);
        slots.remove(name);
        drop(slots);
        loading.tell(Err(failure.clone()));
        true
    }

    /// What there is of a model. Waits for nothing, and is no use of it.
    pub fn look(&self, name: &str) -> Look<M> {
        match lock(&self.slots).get(name) {
            None => Look::Absent,
            Some(Slot::Loading(loading)) => Look::Loading(loading.time()),
            Some(Slot::Ready { model, .. }) => Look::Ready(Arc::clone(model)),
            Some(Slot::Refused { failure, .. }) => Look::Refused(failure.clone()),
        }
    }

    /// The models that are loaded, with the provider that each really runs on, and those that are being
    /// loaded. Waits for none of them.
    pub fn names(&self) -> Vec<String> {
        let name = |(name, slot): (&String, &Slot<M>)| match slot {
            Slot::Ready { model, .. } => Some(format!("{name} ({})", model.provider())),
            Slot::Loading(_) => Some(format!("{name} (loading)")),
            Slot::Refused { .. } => None,
        };
        lock(&self.slots).iter().filter_map(name).collect()
    }

    /// Drops what a connection has waiting.
    pub fn forget(&self, connection: ConnectionId) {
        for (_, model) in self.ready() {
            model.forget(connection);
        }
    }

    /// Takes out the models that were idle for so long, by their names. They are unloaded as they are dropped,
    /// or when the last of those who have asked for them a moment ago has what it wanted.
    pub fn take_idle(&self, timeout: Duration) -> Vec<(String, Arc<Running<M>>)> {
        let mut idle = Vec::new();
        for (name, seen) in self.ready() {
            let is_idle = seen.is_idle();
            let mut slots = lock(&self.slots);
            let Some(Slot::Ready { model, used }) = slots.get_mut(&name) else { continue };
            if !is_idle {
                *used = Instant::now();
            } else if used.elapsed() >= timeout && Arc::ptr_eq(model, &seen) {
                slots.remove(&name);
                idle.push((name, seen));
            }
        }
        idle
    }

    fn ready(&self) -> Vec<(String, Arc<Running<M>>)> {
        let ready = |(name, slot): (&String, &Slot<M>)| match slot {
            Slot::Ready { model, .. } => Some((name.clone(), Arc::clone(model))),
            _ => None,
        };
        lock(&self.slots).iter().filter_map(ready).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The state is valid after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{Batching, FairQueue};
    use crate::running::Lane;
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
    fn model(sum: &Arc<AtomicUsize>, gate: &Arc<Mutex<()>>) -> Result<Running<Model>, Refusal> {
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
        Ok(Running::start(Model { queue, sum: Arc::clone(sum) }, lanes)?)
    }

    #[test]
    fn idle_models_are_unloaded_and_busy_ones_are_not() {
        let (slots, sum, gate) = (Slots::new(), Arc::default(), Arc::default());
        let load = || {
            let (sum, gate) = (Arc::clone(&sum), Arc::clone(&gate));
            slots.get("m", || None, move || model(&sum, &gate), || false)
        };
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
        assert!(slots.names().is_empty() && matches!(slots.look("m"), Look::Absent));
        drop(idle);
        if let Ok(running) = &running {
            running.queue.push(1, [100]);
        }
        // Waits for the lane.
        drop(running);
        assert_eq!(sum.load(Ordering::SeqCst), 111);
        assert!(load().is_ok_and(|again| again.is_idle()), "loaded again");
    }

    /// A load that waits for the gate, counts, and fails.
    fn failing(
        slots: &Arc<Slots<Model>>,
        stamp: u8,
        loads: &Arc<AtomicUsize>,
        gate: &Arc<Mutex<()>>,
    ) -> Result<Arc<Running<Model>>, Failure> {
        let (loads, gate) = (Arc::clone(loads), Arc::clone(gate));
        let load = move || {
            drop(lock(&gate));
            loads.fetch_add(1, Ordering::SeqCst);
            let failure = Failure::new(FailureKind::Configuration, "broken");
            Err(Refusal { failure, is_of_files: true })
        };
        slots.get("m", || Some([stamp; 32]), load, || false)
    }

    #[test]
    fn who_waits_for_a_model_that_fails_gets_that_failure() {
        let (slots, loads, gate) = (Slots::new(), Arc::default(), Arc::default());
        let closed = lock(&gate);
        thread::scope(|scope| {
            let waiters: Vec<_> =
                (0..50).map(|_| scope.spawn(|| failing(&slots, 1, &loads, &gate).is_err())).collect();
            while !matches!(slots.look("m"), Look::Loading(_)) {
                thread::yield_now();
            }
            assert_eq!(slots.names(), ["m (loading)"]);
            drop(closed);
            assert!(waiters.into_iter().all(|waiter| waiter.join().is_ok_and(|failed| failed)));
        });
        assert_eq!(loads.load(Ordering::SeqCst), 1);
        // The same files are not tried again so soon, other ones are.
        assert!(failing(&slots, 1, &loads, &gate).is_err() && matches!(slots.look("m"), Look::Refused(_)));
        assert_eq!(loads.load(Ordering::SeqCst), 1);
        assert!(failing(&slots, 2, &loads, &gate).is_err());
        assert_eq!(loads.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_model_can_be_given_up() {
        let (slots, loads, gate) = (Slots::new(), Arc::default(), Arc::default());
        let closed = lock(&gate);
        let stuck = Failure::new(FailureKind::Configuration, "stuck");
        thread::scope(|scope| {
            let waiter = scope.spawn(|| failing(&slots, 1, &loads, &gate).err());
            while !slots.give_up("m", &stuck) {
                thread::yield_now();
            }
            assert_eq!(waiter.join().ok().flatten().map(|failure| failure.message), Some("stuck".to_owned()));
        });
        // What comes of it after all is nobody's.
        drop(closed);
        while loads.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        assert!(matches!(slots.look("m"), Look::Absent));
    }

    #[test]
    fn who_leaves_waits_no_longer() {
        let (slots, gate) = (Slots::<Model>::new(), Arc::new(Mutex::new(())));
        let closed = lock(&gate);
        let load = {
            let gate = Arc::clone(&gate);
            move || {
                drop(lock(&gate));
                Err(Failure::new(FailureKind::Configuration, "broken").into())
            }
        };
        assert!(
            slots.get("m", || None, load, || true).is_err_and(|failure| failure.message.contains("nobody"))
        );
        drop(closed);
    }
}
