//! A queue that is fair between connections, and that decides when a batch is closed.
//!
//! Connections take turns: a session with a hundred thousand waiting images delays another session's single image by
//! the batches in flight, not by its whole backlog.
//!
//! A queue may also have a lane. It takes inputs one by one and runs them beside the batches or between their pieces,
//! so that a single image waits for no whole batch. The lane works only while one connection has many inputs waiting or in flight, and it
//! takes only inputs of connections that have few. So many sessions that send one input each still share batches, and
//! the lane takes nothing from them. Batches leave the few inputs that such sessions have to the lane, unless it has
//! been busy with one input for too long.
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

/// The most inputs, waiting and in flight, of a connection that has few.
const FEW_INPUTS: usize = 4;

/// The most inputs that wait for the lane. If more wait, a batch takes them together.
const LANE_INPUTS: usize = 4;

/// How long the lane may be busy with one input before batches take the inputs that wait for it. One image may take
/// seconds to decode, and the others should not wait for that.
const LANE_PATIENCE: Duration = Duration::from_secs(1);

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
    /// Notified of every change that may give the lane an input.
    lane_changed: Condvar,
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
    /// Inputs in flight of connections that were forgotten.
    orphans: usize,
    lane: Lane,
    /// Whether no more inputs are expected.
    is_closed: bool,
}

/// What the queue's lane does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// There is none.
    Absent,
    Free,
    /// It has been busy with one input since then.
    Busy(Instant),
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
    /// An empty queue without a lane.
    pub fn new(batching: Batching) -> Self {
        Self::with(batching, Lane::Absent)
    }

    /// An empty queue with a lane: a thread that calls [`take_single`](Self::take_single) until it returns `None`.
    pub fn with_lane(batching: Batching) -> Self {
        Self::with(batching, Lane::Free)
    }

    fn with(batching: Batching, lane: Lane) -> Self {
        let state = Mutex::new(State::new(lane));
        FairQueue { batching, state, changed: Condvar::new(), lane_changed: Condvar::new() }
    }

    /// Appends inputs to those of the same connection.
    pub fn push(&self, connection: ConnectionId, items: impl IntoIterator<Item = T>) {
        let mut state = self.lock();
        state.push(connection, items, Instant::now());
        self.changed.notify_one();
        self.wake_lane(&state);
    }

    /// Waits until a batch is closed and takes up to `max_items` waiting inputs, one from each connection in turn.
    /// `max_items` may exceed the size of a full batch. Returns `None` once the queue is closed and empty.
    pub fn take(&self, max_items: usize) -> Option<Vec<Dequeued<T>>> {
        self.take_weighted(max_items, 0, |_| 0)
    }

    /// Like [`take`](Self::take), up to a total weight of `max_weight`. The first input is taken regardless of its
    /// weight.
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
        let batch = state.take(max_items, max_weight, weigh, Instant::now());
        if state.waiting > 0 {
            self.changed.notify_one();
        }
        Some(batch)
    }

    /// For the lane: waits for an input that should not wait for batches, and takes it. Returns `None` once the queue is
    /// closed; batches take the remaining inputs.
    pub fn take_single(&self) -> Option<Dequeued<T>> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(single) = state.take_single(Instant::now()) {
                if state.waiting > 0 {
                    // The others wait for the lane from now on, and not for ever.
                    self.changed.notify_one();
                }
                return Some(single);
            }
            state = self.lane_changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Closes the queue. Remaining inputs can still be taken; after that, [`take`](Self::take) returns `None`.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
        self.lane_changed.notify_all();
    }

    /// Whether no input is waiting or in flight.
    pub fn is_idle(&self) -> bool {
        self.lock().connections.values().all(Connection::is_idle)
    }

    /// Marks inputs, given by their connections, as done: they are about to be answered.
    pub fn done(&self, connections: impl IntoIterator<Item = ConnectionId>) {
        let mut state = self.lock();
        state.done(connections, Instant::now());
        self.after_done(&state);
    }

    /// Marks the input that the lane took as done.
    pub fn done_single(&self, connection: ConnectionId) {
        let mut state = self.lock();
        state.done_single(connection, Instant::now());
        self.after_done(&state);
    }

    /// A connection that had many inputs may have few now. Then its inputs may go to the lane, or those that were left
    /// to the lane may go into a batch.
    fn after_done(&self, state: &State<T>) {
        if state.lane != Lane::Absent && state.waiting > 0 {
            self.changed.notify_one();
            self.wake_lane(state);
        }
    }

    fn wake_lane(&self, state: &State<T>) {
        if state.lane == Lane::Free && state.lane_turn().is_some() {
            self.lane_changed.notify_one();
        }
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
    fn new(lane: Lane) -> Self {
        State {
            turns: VecDeque::new(),
            connections: HashMap::new(),
            waiting: 0,
            orphans: 0,
            lane,
            is_closed: false,
        }
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
        // Connections answered longer ago than the delay are no longer expected.
        self.connections.retain(|_, connection| {
            !connection.is_idle() || connection.answered.is_some_and(|at| at + batching.delay > now)
        });
        if self.waiting == 0 {
            return None;
        }
        match self.waiting - self.left_to_lane(now) {
            0 => return self.lane_patience_ends(),
            available if available >= batching.size => return Some(now),
            _ => {}
        }
        let connections = self.connections.values();
        let expected = connections.clone().filter(|connection| connection.is_idle());
        let Some(last) = expected.filter_map(|connection| connection.answered).max() else {
            return Some(now);
        };
        let oldest = connections.filter_map(|connection| connection.waiting.front()).map(|&(at, _)| at).min();
        Some(last.min(oldest.unwrap_or(last)) + batching.delay)
    }

    fn take(
        &mut self,
        max_items: usize,
        max_weight: usize,
        weigh: impl Fn(&T) -> usize,
        now: Instant,
    ) -> Vec<Dequeued<T>> {
        let mut batch = Vec::with_capacity(max_items.min(self.waiting));
        let mut weight = 0usize;
        let has_lane_inputs = self.left_to_lane(now) > 0;
        let mut left_to_lane = Vec::new();
        while batch.len() < max_items {
            let Some(id) = self.turns.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            if has_lane_inputs && connection.has_few() {
                left_to_lane.push(id);
                continue;
            }
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
        // Their turns are still the next ones.
        for id in left_to_lane.into_iter().rev() {
            self.turns.push_front(id);
        }
        batch
    }

    /// Takes the next input for the lane, if there is one.
    fn take_single(&mut self, now: Instant) -> Option<Dequeued<T>> {
        let id = self.turns.remove(self.lane_turn()?)?;
        let connection = self.connections.get_mut(&id)?;
        let (_, item) = connection.waiting.pop_front()?;
        connection.in_flight += 1;
        self.waiting -= 1;
        if !connection.waiting.is_empty() {
            self.turns.push_back(id);
        }
        self.lane = Lane::Busy(now);
        Some(Dequeued { connection: id, item })
    }

    /// The place in `turns` of the next connection that has few inputs, if another one has many.
    fn lane_turn(&self) -> Option<usize> {
        let has_few = |id| self.connections.get(id).is_some_and(Connection::has_few);
        if self.has_bulk() { self.turns.iter().position(has_few) } else { None }
    }

    /// The number of waiting inputs that batches leave to the lane: all inputs of connections that have few.
    fn left_to_lane(&self, now: Instant) -> usize {
        let is_soon = match self.lane {
            Lane::Absent => false,
            Lane::Free => true,
            Lane::Busy(_) => self.lane_patience_ends().is_some_and(|end| now < end),
        };
        if !is_soon || self.is_closed || !self.has_bulk() {
            return 0;
        }
        let few = self.connections.values().filter(|connection| connection.has_few());
        let inputs = few.map(|connection| connection.waiting.len()).sum();
        if inputs > LANE_INPUTS { 0 } else { inputs }
    }

    /// When batches take the inputs that were left to the lane; `None` while it is free, because it takes them soon.
    fn lane_patience_ends(&self) -> Option<Instant> {
        match self.lane {
            Lane::Busy(since) => Some(since + LANE_PATIENCE),
            Lane::Absent | Lane::Free => None,
        }
    }

    /// Whether a connection has many inputs, or had many that are still in flight.
    fn has_bulk(&self) -> bool {
        self.orphans > FEW_INPUTS || self.connections.values().any(|connection| !connection.has_few())
    }

    fn done(&mut self, connections: impl IntoIterator<Item = ConnectionId>, now: Instant) {
        for id in connections {
            match self.connections.get_mut(&id) {
                Some(connection) => {
                    connection.in_flight = connection.in_flight.saturating_sub(1);
                    connection.answered = Some(now);
                }
                // The connection has been forgotten since.
                None => self.orphans = self.orphans.saturating_sub(1),
            }
        }
    }

    fn done_single(&mut self, connection: ConnectionId, now: Instant) {
        self.done([connection], now);
        self.lane = Lane::Free;
    }

    fn forget(&mut self, id: ConnectionId) -> Option<Connection<T>> {
        let connection = self.connections.remove(&id)?;
        self.turns.retain(|&other| other != id);
        self.waiting -= connection.waiting.len();
        self.orphans += connection.in_flight;
        Some(connection)
    }
}

impl<T> Connection<T> {
    /// Whether it has no input waiting or in flight.
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight == 0
    }

    /// Whether it has few inputs, waiting and in flight.
    fn has_few(&self) -> bool {
        self.waiting.len() + self.in_flight <= FEW_INPUTS
    }
}

#[cfg(test)]
mod tests;
