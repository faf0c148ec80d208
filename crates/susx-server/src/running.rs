//! A loaded model at work, until nobody holds it any more.
//!
//! A model has queues and lanes, the threads that take batches from them. They live as long as somebody
//! holds the [`Running`] model: what was sent to it before it was unloaded is answered.

use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

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
            running.spawn(lane).map_err(|error| cannot_start(&error))?;
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

/// The failure where a thread cannot be started.
pub fn cannot_start(error: &io::Error) -> Failure {
    Failure::new(FailureKind::Inference, format!("cannot start a thread: {error}"))
}
