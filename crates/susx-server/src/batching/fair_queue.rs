//! A queue that is fair between connections, and that knows when a batch is complete.
//!
//! Connections take turns: a session with a hundred thousand images waiting delays another session's
//! single image by the batches in flight, not by its own length.
//!
//! A batch is closed when it is full. A smaller one is closed at once, unless somebody is expected: a
//! connection that was answered a moment ago and has nothing here. A session that works row by row sends
//! its next row right after the answer to the last; so sessions that do that at the same time share
//! batches. They are waited for for the batch delay at most, counted from their answer and from the
//! arrival of the oldest input. Who is alone is never made to wait.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// ModelNames a connection.
pub type ConnectionId = u64;

/// When a batch is closed.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    /// Inputs of a full one.
    pub size: usize,
    /// The longest that an input waits for others.
    pub delay: Duration,
}

/// Waiting inputs of one model, by connection.
#[derive(Debug)]
pub struct FairQueue<T> {
    batching: Batching,
    state: Mutex<State<T>>,
    /// Something that changes when the next batch is closed.
    change: Condvar,
}

/// An input that was taken from the queue, and who sent it.
#[derive(Debug)]
pub struct Dequeued<T> {
    pub connection: ConnectionId,
    pub item: T,
}

#[derive(Debug)]
struct State<T> {
    /// Connections with something waiting, whose turn it is at the front.
    turns: VecDeque<ConnectionId>,
    connections: HashMap<ConnectionId, Connection<T>>,
    /// Inputs that wait, of all connections.
    waiting: usize,
    /// Nothing more will come.
    is_closed: bool,
}

#[derive(Debug)]
struct Connection<T> {
    /// With the time of their arrival.
    waiting: VecDeque<(Instant, T)>,
    /// How many inputs were taken and are not done.
    in_flight: usize,
    /// When it had its last answer.
    answered: Option<Instant>,
}

impl<T> FairQueue<T> {
    pub fn new(batching: Batching) -> Self {
        FairQueue { batching, state: Mutex::new(State::new()), change: Condvar::new() }
    }

    /// Adds a connection's inputs behind its own.
    pub fn push(&self, connection: ConnectionId, items: impl IntoIterator<Item = T>) {
        self.lock().push(connection, items, Instant::now());
        self.change.notify_one();
    }

    /// Waits until a batch is closed and takes it: up to `most` inputs, one from each connection in
    /// turn. `most` may be more than a full batch: then what waits is taken too. `None` once the queue has
    /// been closed and is empty.
    pub fn take(&self, most: usize) -> Option<Vec<Dequeued<T>>> {
        self.take_weighing(most, 0, |_| 0)
    }

    /// The same, up to what weighs `heaviest` together; the first is taken whatever it weighs.
    pub fn take_weighing(
        &self,
        most: usize,
        heaviest: usize,
        weigh: impl Fn(&T) -> usize,
    ) -> Option<Vec<Dequeued<T>>> {
        let mut state = self.lock();
        loop {
            if state.is_closed && state.waiting == 0 {
                return None;
            }
            let now = Instant::now();
            let closes = state.closes(self.batching, now);
            state = match closes.map(|at| at.saturating_duration_since(now)) {
                Some(Duration::ZERO) => break,
                Some(rest) => self.change.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0,
                None => self.change.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        let batch = state.take(most, heaviest, weigh);
        if state.waiting > 0 {
            self.change.notify_one();
        }
        Some(batch)
    }

    /// Nothing more will come: those who take batches get what is left, and then nothing.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.change.notify_all();
    }

    /// Whether nothing waits and nothing is being worked on.
    pub fn is_idle(&self) -> bool {
        self.lock().connections.values().all(Connection::is_idle)
    }

    /// Inputs that were dequeued, by their connections, are about to be answered.
    pub fn done(&self, connections: impl IntoIterator<Item = ConnectionId>) {
        self.lock().done(connections, Instant::now());
    }

    /// Drops everything that a connection has waiting, and expects nothing more from it.
    pub fn forget(&self, connection: ConnectionId) {
        let forgotten = self.lock().forget(connection);
        self.change.notify_one();
        // Outside the lock: an item may do work when it is dropped.
        drop(forgotten);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // The state is valid after every statement, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn new() -> Self {
        State { turns: VecDeque::new(), connections: HashMap::new(), waiting: 0, is_closed: false }
    }

    fn push(&mut self, id: ConnectionId, items: impl IntoIterator<Item = T>, now: Instant) {
        let none = || Connection { waiting: VecDeque::new(), in_flight: 0, answered: None };
        let connection = self.connections.entry(id).or_insert_with(none);
        let before = connection.waiting.len();
        connection.waiting.extend(items.into_iter().map(|item| (now, item)));
        let after = connection.waiting.len();
        if before == 0 && after > 0 {
            self.turns.push_back(id);
        }
        self.waiting += after - before;
    }

    /// When the next batch is closed, if nothing else happens; `None` while nothing waits.
    fn closes(&mut self, batching: Batching, now: Instant) -> Option<Instant> {
        // Who was answered too long ago is not expected any more.
        self.connections.retain(|_, connection| {
            !connection.is_idle() || connection.answered.is_some_and(|at| at + batching.delay > now)
        });
        if self.waiting == 0 {
            return None;
        }
        if self.waiting >= batching.size {
            return Some(now);
        }
        let connections = self.connections.values();
        let expected = connections.clone().filter(|connection| connection.is_idle());
        let Some(last) = expected.filter_map(|connection| connection.answered).max() else {
            return Some(now);
        };
        let oldest = connections.filter_map(|connection| connection.waiting.front()).map(|&(at, _)| at).min();
        Some(last.min(oldest.unwrap_or(last)) + batching.delay)
    }

    fn take(&mut self, most: usize, heaviest: usize, weigh: impl Fn(&T) -> usize) -> Vec<Dequeued<T>> {
        let mut batch = Vec::with_capacity(most.min(self.waiting));
        let mut weight = 0usize;
        while batch.len() < most {
            let Some(id) = self.turns.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            let Some((_, next)) = connection.waiting.front() else { continue };
            weight = weight.saturating_add(weigh(next));
            if weight > heaviest && !batch.is_empty() {
                // It comes first in the next batch.
                self.turns.push_front(id);
                break;
            }
            let Some((_, item)) = connection.waiting.pop_front() else { continue };
            connection.in_flight += 1;
            self.waiting -= 1;
            batch.push(Dequeued { connection: id, item });
            if !connection.waiting.is_empty() {
                self.turns.push_back(id);
            }
        }
        batch
    }

    fn done(&mut self, connections: impl IntoIterator<Item = ConnectionId>, now: Instant) {
        for id in connections {
            // It may have been forgotten meanwhile.
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.in_flight = connection.in_flight.saturating_sub(1);
            connection.answered = Some(now);
        }
    }

    fn forget(&mut self, id: ConnectionId) -> Option<Connection<T>> {
        let connection = self.connections.remove(&id)?;
        self.turns.retain(|&other| other != id);
        self.waiting -= connection.waiting.len();
        Some(connection)
    }
}

impl<T> Connection<T> {
    /// Whether it has nothing here.
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight == 0
    }
}

#[cfg(test)]
mod tests;
