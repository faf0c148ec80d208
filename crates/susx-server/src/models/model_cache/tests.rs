use super::*;
use crate::batching::fair_queue::{Batching, FairQueue};
use crate::batching::service::BatchingTask;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Model {
    queue: FairQueue<u32>,
    /// Sum of the numbers that its task has processed.
    sum: Arc<AtomicUsize>,
}

impl Service for Model {
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

/// A model whose task adds up numbers once the gate is open.
fn model(sum: &Arc<AtomicUsize>, gate: &Arc<Mutex<()>>) -> Result<RunningService<Model>, LoadError> {
    let queue = FairQueue::new(Batching { size: 1, delay: Duration::ZERO });
    let gate = Arc::clone(gate);
    let task = move |model: &Model| {
        while let Some(batch) = model.queue.take(1) {
            drop(lock(&gate));
            for dequeued in &batch {
                model.sum.fetch_add(dequeued.item as usize, Ordering::SeqCst);
            }
            model.queue.done(batch.iter().map(|dequeued| dequeued.connection));
        }
    };
    let tasks: [BatchingTask<Model>; 1] = [("task".to_owned(), Box::new(task))];
    Ok(RunningService::start(Model { queue, sum: Arc::clone(sum) }, tasks)?)
}

#[test]
fn idle_models_are_unloaded_and_busy_ones_are_not() {
    let (entries, sum, gate) = (ModelCache::new(), Arc::default(), Arc::default());
    let load = || {
        let (sum, gate) = (Arc::clone(&sum), Arc::clone(&gate));
        entries.get("m", || None, move || model(&sum, &gate), || false)
    };
    let running = load();
    let first = running.as_ref().map(Arc::as_ptr).ok();
    assert_eq!(load().as_ref().map(Arc::as_ptr).ok(), first, "loaded once");
    assert_eq!(entries.names(), ["m (test)"]);
    assert!(entries.take_idle(Duration::from_secs(60)).is_empty());
    let closed = lock(&gate);
    if let Ok(running) = &running {
        running.queue.push(1, [5, 6]);
    }
    assert!(entries.take_idle(Duration::ZERO).is_empty(), "a busy model stays loaded");
    drop(closed);
    // A request still holds the model, and its inputs are processed.
    let mut idle = Vec::new();
    while idle.is_empty() {
        idle = entries.take_idle(Duration::ZERO);
    }
    assert!(entries.names().is_empty() && matches!(entries.state("m"), ModelState::Absent));
    drop(idle);
    if let Ok(running) = &running {
        running.queue.push(1, [100]);
    }
    // Joins the task.
    drop(running);
    assert_eq!(sum.load(Ordering::SeqCst), 111);
    assert!(load().is_ok_and(|again| again.is_idle()), "loaded again");
}

/// Requests a model whose load waits for the gate, counts and fails.
fn failing(
    entries: &Arc<ModelCache<Model>>,
    stamp: u8,
    loads: &Arc<AtomicUsize>,
    gate: &Arc<Mutex<()>>,
) -> Result<Arc<RunningService<Model>>, Failure> {
    let (loads, gate) = (Arc::clone(loads), Arc::clone(gate));
    let load = move || {
        drop(lock(&gate));
        loads.fetch_add(1, Ordering::SeqCst);
        let failure = Failure::new(FailureKind::Configuration, "broken");
        Err(LoadError { failure, is_caused_by_files: true })
    };
    entries.get("m", || Some([stamp; 32]), load, || false)
}

#[test]
fn all_waiters_get_the_failure_of_a_load() {
    let (entries, loads, gate) = (ModelCache::new(), Arc::default(), Arc::default());
    let closed = lock(&gate);
    thread::scope(|scope| {
        let waiters: Vec<_> =
            (0..50).map(|_| scope.spawn(|| failing(&entries, 1, &loads, &gate).is_err())).collect();
        while !matches!(entries.state("m"), ModelState::Loading(_)) {
            thread::yield_now();
        }
        assert_eq!(entries.names(), ["m (loading)"]);
        drop(closed);
        assert!(waiters.into_iter().all(|waiter| waiter.join().is_ok_and(|failed| failed)));
    });
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    // The same files are not tried again for a while; changed files are.
    assert!(
        failing(&entries, 1, &loads, &gate).is_err() && matches!(entries.state("m"), ModelState::Failed(..))
    );
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert!(failing(&entries, 2, &loads, &gate).is_err());
    assert_eq!(loads.load(Ordering::SeqCst), 2);
}

#[test]
fn a_model_can_be_given_up() {
    let (entries, loads, gate) = (ModelCache::new(), Arc::default(), Arc::default());
    let closed = lock(&gate);
    let stuck = Failure::new(FailureKind::Configuration, "stuck");
    thread::scope(|scope| {
        let waiter = scope.spawn(|| failing(&entries, 1, &loads, &gate).err());
        while !entries.give_up("m", &stuck) {
            thread::yield_now();
        }
        assert_eq!(waiter.join().ok().flatten().map(|failure| failure.message), Some("stuck".to_owned()));
    });
    // The result of the abandoned load is discarded.
    drop(closed);
    while loads.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    assert!(matches!(entries.state("m"), ModelState::Absent));
}

#[test]
fn a_disconnected_client_stops_waiting() {
    let (entries, gate) = (ModelCache::<Model>::new(), Arc::new(Mutex::new(())));
    let closed = lock(&gate);
    let load = {
        let gate = Arc::clone(&gate);
        move || {
            drop(lock(&gate));
            Err(Failure::new(FailureKind::Configuration, "broken").into())
        }
    };
    assert!(
        entries
            .get("m", || None, load, || true)
            .is_err_and(|failure| failure.message.contains("disconnected"))
    );
    drop(closed);
}
