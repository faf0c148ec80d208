//! A loaded model with its queues and batching tasks.
//!
//! Batching tasks are threads that take batches from the model's queues. They run as long as there is a reference to
//! the [`RunningService`], so inputs that were queued before the model was unloaded are still answered.

use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::batching::fair_queue::ConnectionId;
use crate::models::ledger::Room;
use crate::protocol::{Failure, FailureKind};

/// A loaded model and its queues.
pub trait Service: Send + Sync + 'static {
    /// The execution provider in use.
    fn provider(&self) -> &str;
    /// Whether only a part of the model could be loaded, because of its files.
    fn is_incomplete(&self) -> bool {
        false
    }
    /// Whether no input is waiting or in flight.
    fn is_idle(&self) -> bool;
    /// Drops the waiting inputs of a connection.
    fn forget(&self, connection: ConnectionId);
    /// Closes the queues. The tasks answer the waiting inputs and end.
    fn close(&self);
}

/// Name and body of a batching task's thread. The body returns once the model is closed.
pub type BatchingTask<M> = (String, Box<dyn FnOnce(&M) + Send>);

/// A model and its running tasks. Dropping it closes the model and joins the tasks.
#[derive(Debug)]
pub struct RunningService<M: Service> {
    model: Arc<M>,
    tasks: Vec<JoinHandle<()>>,
    /// Released after the model is freed: fields are dropped in this order.
    room: Option<Room>,
}

impl<M: Service> RunningService<M> {
    /// Starts the tasks. Fails if a thread cannot be started.
    pub fn start(model: M, tasks: impl IntoIterator<Item = BatchingTask<M>>) -> Result<Self, Failure> {
        let mut running = RunningService { model: Arc::new(model), tasks: Vec::new(), room: None };
        for task in tasks {
            running.spawn(task).map_err(|error| cannot_start(&error))?;
        }
        Ok(running)
    }

    /// The same model with the room that was made for it.
    pub fn with_room(mut self, room: Room) -> Self {
        self.room = Some(room);
        self
    }

    /// Says that the model is no longer in a cache and is freed soon.
    pub fn leave(&self) {
        if let Some(room) = &self.room {
            room.leave();
        }
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
            // An error means that the task has panicked, so it has ended as well.
            let _ = task.join();
        }
    }
}

/// The failure for a thread that cannot be started.
pub fn cannot_start(error: &io::Error) -> Failure {
    Failure::new(FailureKind::Inference, format!("cannot start a thread: {error}"))
}
