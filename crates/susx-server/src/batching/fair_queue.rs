//! A queue that is fair between connections, and that decides when a batch is closed.
//!
//! Connections take turns: a session with a hundred thousand waiting images delays another session's single image by
//! the batches in flight, not by its whole backlog.
//!
//! A full batch is closed at once. So is a smaller one, unless another connection is expected to send an input soon:
//! one that was answered within the batch delay and has no input waiting or in flight. A session that works row by row
//! sends its next row right after the previous answer, so concurrent sessions of this kind share batches. An expected
//! connection is waited for at most the batch delay after its answer and after the arrival of the oldest input. A
//! connection that works alone never waits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Identifies a connection; never reused by a process.
pub type ConnectionId = u64;

/// When a batch is closed.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    /// Number of inputs in a full batch.
    pub size: usize,
    /// Maximum time that an input waits for others.
    pub delay: Duration,
}

/// Waiting inputs of one model, by connection.
#[derive(Debug)]
pub struct FairQueue<T> {
    batching: Batching,
    state: Mutex<State<T>>,
    /// Notified of every change that may close the next batch.
    changed: Condvar,
}

/// An input taken from the queue, with the connection that sent it.
#[derive(Debug)]
pub struct Dequeued<T> {
    pub connection: ConnectionId,
    pub item: T,
}

#[derive(Debug)]
struct State<T> {
    /// Connections with waiting inputs, in the order of their turns.
    turns: VecDeque<ConnectionId>,
    connections: HashMap<ConnectionId, Connection<T>>,
    /// Number of waiting inputs of all connections.
    waiting: usize,
    /// Whether no more inputs are expected.
    is_closed: bool,
}

#[derive(Debug)]
struct Connection<T> {
    /// Waiting inputs with their times of arrival.
    waiting: VecDeque<(Instant, T)>,
    /// Number of inputs taken but not done.
    in_flight: usize,
    /// Time of its last answer.
    answered: Option<Instant>,
}

impl<T> FairQueue<T> {
    /// An empty queue.
    pub fn new(batching: Batching) -> Self {
        FairQueue { batching, state: Mutex::new(State::new()), changed: Condvar::new() }
    }

    /// Appends inputs to those of the same connection.
    pub fn push(&self, connection: ConnectionId, items: impl IntoIterator<Item = T>) {
        self.lock().push(connection, items, Instant::now());
        self.changed.notify_one();
    }

    /// Waits until a batch is closed and takes up to `max_items` waiting inputs, one from each connection in turn.
    /// `max_items` may exceed the size of a full batch. Returns `None` once the queue is closed and empty.
    pub fn take(&self, max_items: usize) -> Option<Vec<Dequeued<T>>> {
        self.take_weighted(max_items, 0, |_| 0)
    }

    /// Like [`take`](Self::take), up to a total weight of `max_weight`. The first input is taken whatever its weight.
    pub fn take_weighted(
        &self,
        max_items: usize,
        max_weight: usize,
        weigh: impl Fn(&T) -> usize,
    ) -> Option<Vec<Dequeued<T>>> {
        let mut state = self.lock();
        loop {
            if state.is_closed && state.waiting == 0 {
                return None;
            }
            let now = Instant::now();
            let closes_at = state.closes_at(self.batching, now);
            state = match closes_at.map(|at| at.saturating_duration_since(now)) {
                Some(Duration::ZERO) => break,
                Some(rest) => {
                    self.changed.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        let batch = state.take(max_items, max_weight, weigh);
        if state.waiting > 0 {
            self.changed.notify_one();
        }
        Some(batch)
    }

    /// Closes the queue. Remaining inputs can still be taken; after that, [`take`](Self::take) returns `None`.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Whether no input is waiting or in flight.
    pub fn is_idle(&self) -> bool {
        self.lock().connections.values().all(Connection::is_idle)
    }

    /// Marks inputs, given by their connections, as done: they are about to be answered.
    pub fn done(&self, connections: impl IntoIterator<Item = ConnectionId>) {
        self.lock().done(connections, Instant::now());
    }

    /// Drops a connection's waiting inputs and expects no more from it.
    pub fn forget(&self, connection: ConnectionId) {
        let forgotten = self.lock().forget(connection);
        self.changed.notify_one();
        // Dropped outside the lock, because an item's destructor may do work.
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

    /// When the next batch is closed if the queue does not change; `None` while no input waits.
    fn closes_at(&mut self, batching: Batching, now: Instant) -> Option<Instant> {
        // Connections answered longer ago than the delay are not expected any more.
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

    fn take(&mut self, max_items: usize, max_weight: usize, weigh: impl Fn(&T) -> usize) -> Vec<Dequeued<T>> {
        let mut batch = Vec::with_capacity(max_items.min(self.waiting));
        let mut weight = 0usize;
        while batch.len() < max_items {
            let Some(id) = self.turns.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            let Some((_, next)) = connection.waiting.front() else { continue };
            weight = weight.saturating_add(weigh(next));
            if weight > max_weight && !batch.is_empty() {
                // The input comes first in the next batch.
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
            // The connection may have been forgotten since.
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
    /// Whether it has no input waiting or in flight.
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight == 0
    }
}

#[cfg(test)]
mod tests;
