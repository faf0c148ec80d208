//! A queue that is fair between connections.
//!
//! Connections take turns: a session with a hundred thousand images waiting delays another session's
//! single image by the batches in flight, not by its own length.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Names a connection.
pub type ConnectionId = u64;

/// Waiting inputs of one model, by connection.
#[derive(Debug)]
pub struct FairQueue<T> {
    state: Mutex<State<T>>,
    arrival: Condvar,
}

#[derive(Debug)]
struct State<T> {
    /// Connections with something waiting, whose turn it is at the front.
    turns: VecDeque<ConnectionId>,
    waiting: HashMap<ConnectionId, VecDeque<T>>,
}

impl<T> FairQueue<T> {
    pub fn new() -> Self {
        FairQueue {
            state: Mutex::new(State { turns: VecDeque::new(), waiting: HashMap::new() }),
            arrival: Condvar::new(),
        }
    }

    /// Adds a connection's inputs behind its own.
    pub fn push(&self, connection: ConnectionId, items: impl IntoIterator<Item = T>) {
        let mut state = self.lock();
        let queue = state.waiting.entry(connection).or_default();
        let was_empty = queue.is_empty();
        queue.extend(items);
        if was_empty && !queue.is_empty() {
            state.turns.push_back(connection);
        }
        drop(state);
        self.arrival.notify_one();
    }

    /// Waits for inputs and takes up to `limit` of them, one from each connection in turn. What came
    /// while the model was busy makes up the next batch: nobody waits for a batch to fill.
    pub fn take(&self, limit: usize) -> Vec<T> {
        let mut state = self.lock();
        while state.turns.is_empty() {
            state = self.arrival.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let mut batch = Vec::new();
        while batch.len() < limit {
            let Some(connection) = state.turns.pop_front() else { break };
            let Some(queue) = state.waiting.get_mut(&connection) else { continue };
            batch.extend(queue.pop_front());
            if queue.is_empty() {
                state.waiting.remove(&connection);
            } else {
                state.turns.push_back(connection);
            }
        }
        if !state.turns.is_empty() {
            self.arrival.notify_one();
        }
        batch
    }

    /// Drops everything that a connection has waiting.
    pub fn forget(&self, connection: ConnectionId) {
        let mut state = self.lock();
        if let Some(items) = state.waiting.remove(&connection) {
            state.turns.retain(|&c| c != connection);
            drop(state);
            // Outside the lock: an item may do work when it is dropped.
            drop(items);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // The state is valid after every statement, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_take_turns() {
        let queue = FairQueue::new();
        queue.push(1, ["a1", "a2", "a3", "a4"]);
        queue.push(2, ["b1"]);
        queue.push(3, ["c1", "c2"]);
        assert_eq!(queue.take(4), ["a1", "b1", "c1", "a2"]);
        queue.push(2, ["b2"]);
        assert_eq!(queue.take(9), ["c2", "a3", "b2", "a4"]);
    }

    #[test]
    fn a_forgotten_connection_has_no_turn() {
        let queue = FairQueue::new();
        queue.push(1, ["a1", "a2"]);
        queue.push(2, ["b1"]);
        queue.forget(1);
        queue.forget(7);
        assert_eq!(queue.take(9), ["b1"]);
    }

    #[test]
    fn take_waits_for_an_arrival() {
        let queue = FairQueue::new();
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| queue.take(2));
            queue.push(1, ["a1"]);
            assert_eq!(taker.join().ok(), Some(vec!["a1"]));
        });
    }
}
