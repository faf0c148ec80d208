//! A model that is being loaded, and the requests that wait for it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::batching::service::{RunningService, Service};
use crate::protocol::{Failure, FailureKind};

/// Time between two checks whether a waiting client has disconnected.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// A requested model.
#[derive(Debug)]
pub enum Requested<M: Service> {
    Ready(Arc<RunningService<M>>),
    Loading(Arc<PendingLoad<M>>),
}

impl<M: Service> Requested<M> {
    /// Waits until the model is loaded; fails with the failure of the load, or once `is_disconnected`.
    pub fn wait(self, is_disconnected: impl Fn() -> bool) -> Result<Arc<RunningService<M>>, Failure> {
        match self {
            Requested::Ready(model) => Ok(model),
            Requested::Loading(loading) => loading.wait(is_disconnected),
        }
    }
}

/// Outcome of a load, shared by all requests that wait for it.
#[derive(Debug)]
pub struct PendingLoad<M: Service> {
    since: Instant,
    result: Mutex<Option<Result<Arc<RunningService<M>>, Failure>>>,
    done: Condvar,
}

impl<M: Service> PendingLoad<M> {
    /// A load that starts now.
    pub fn new() -> Arc<Self> {
        Arc::new(PendingLoad { since: Instant::now(), result: Mutex::new(None), done: Condvar::new() })
    }

    /// Time since the load started.
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// Ends the load and wakes all that wait for it.
    pub fn finish(&self, result: Result<Arc<RunningService<M>>, Failure>) {
        *self.lock() = Some(result);
        self.done.notify_all();
    }

    /// Waits for the outcome; fails once `is_disconnected`.
    pub fn wait(&self, is_disconnected: impl Fn() -> bool) -> Result<Arc<RunningService<M>>, Failure> {
        let mut result = self.lock();
        loop {
            if let Some(result) = result.as_ref() {
                return result.clone();
            }
            if is_disconnected() {
                return Err(Failure::new(FailureKind::Inference, "the client has disconnected"));
            }
            result = self.done.wait_timeout(result, CHECK_INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<Arc<RunningService<M>>, Failure>>> {
        // The state is valid after every statement.
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
