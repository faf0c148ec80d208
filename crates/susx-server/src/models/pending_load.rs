//! A model that is being loaded, and those who wait for it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::batching::service::{RunningService, Service};
use crate::protocol::{Failure, FailureKind};

/// Between two looks whether somebody still waits for a model.
const LOOK_UP: Duration = Duration::from_millis(100);

/// What all who wait for a model are told.
#[derive(Debug)]
pub struct PendingLoad<M: Service> {
    since: Instant,
    result: Mutex<Option<Result<Arc<RunningService<M>>, Failure>>>,
    done: Condvar,
}

impl<M: Service> PendingLoad<M> {
    pub fn new() -> Arc<Self> {
        Arc::new(PendingLoad { since: Instant::now(), result: Mutex::new(None), done: Condvar::new() })
    }

    /// How long it has been loading.
    pub fn time(&self) -> Duration {
        self.since.elapsed()
    }

    /// Ends the waiting.
    pub fn tell(&self, result: Result<Arc<RunningService<M>>, Failure>) {
        *self.lock() = Some(result);
        self.done.notify_all();
    }

    /// What comes of it; an error once the one who waits `has_left`.
    pub fn wait(&self, has_left: impl Fn() -> bool) -> Result<Arc<RunningService<M>>, Failure> {
        let mut result = self.lock();
        loop {
            if let Some(result) = result.as_ref() {
                return result.clone();
            }
            if has_left() {
                return Err(Failure::new(FailureKind::Inference, "nobody waits for the model"));
            }
            result = self.done.wait_timeout(result, LOOK_UP).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<Arc<RunningService<M>>, Failure>>> {
        // The state is valid after every statement.
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
