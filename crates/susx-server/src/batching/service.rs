//! A loaded model at work, until nobody holds it any more.
//!
//! A model has queues and tasks, the threads that take batches from them. They live as long as somebody
//! holds the [`Running`] model: what was sent to it before it was unloaded is answered.

use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::batching::fair_queue::ConnectionId;
use crate::protocol::{Failure, FailureKind};

/// A model that is loaded, with its queues.
pub trait Service: Send + Sync + 'static {
    /// The execution provider that it really runs on.
    fn provider(&self) -> &str;
    /// Whether nothing waits and nothing is being worked on.
    fn is_idle(&self) -> bool;
    /// Drops what a connection has waiting.
    fn forget(&self, connection: ConnectionId);
    /// Nothing more will be sent to it: its tasks end when they have answered what waits.
    fn close(&self);
}

/// A thread's name, and what it does until the model is closed.
pub type BatchingTask<M> = (String, Box<dyn FnOnce(&M) + Send>);

/// A model and its tasks, which end with it.
#[derive(Debug)]
pub struct RunningService<M: Service> {
    model: Arc<M>,
    tasks: Vec<JoinHandle<()>>,
}

impl<M: Service> RunningService<M> {
    /// Starts the tasks.
    pub fn start(model: M, tasks: impl IntoIterator<Item = BatchingTask<M>>) -> Result<Self, Failure> {
        let mut running = RunningService { model: Arc::new(model), tasks: Vec::new() };
        for task in tasks {
            running.spawn(task).map_err(|error| cannot_start(&error))?;
        }
        Ok(running)
    }

    fn spawn(&mut self, (name, work): BatchingTask<M>) -> io::Result<()> {
        let model = Arc::clone(&self.model);
        self.tasks.push(thread::Builder::new().name(name).spawn(move || work(&model))?);
        Ok(())
    }
}

impl<M: Service> Deref for RunningService<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.model
    }
}

impl<M: Service> Drop for RunningService<M> {
    fn drop(&mut self) {
        self.model.close();
        for task in self.tasks.drain(..) {
            // A task that has panicked has ended, too.
            let _ = task.join();
        }
    }
}

/// The failure where a thread cannot be started.
pub fn cannot_start(error: &io::Error) -> Failure {
    Failure::new(FailureKind::Inference, format!("cannot start a thread: {error}"))
}
