//! Back-pressure: how many bytes of requests there may be in this process.
//!
//! A request takes its share before it is read. What is made of it counts instead once it is answered, until that is
//! sent: so memory is bounded whatever the number of connections, apart from one message of each. Three things must
//! not follow from that:
//!
//! * That a few bulk jobs, whose requests fill the budget, keep a single image out until one of them is
//!   done. So a quarter of the budget is kept for small requests of connections that have nothing else
//!   here.
//! * That a full budget makes the process look dead. A greeting, by which the supervisor tells whether it
//!   hangs, and a question for its counters wait for nothing; nor does any other message as short, one
//!   at a time of each connection.
//! * That a large request waits for ever while small ones slip in. So whoever came first goes first.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The budget of the process.
#[derive(Debug)]
pub struct Budget {
    bulk: Arc<Pool>,
    quick: Arc<Pool>,
}

/// One connection's shares, by their number.
#[derive(Clone, Debug, Default)]
pub struct Holdings(Arc<AtomicUsize>);

/// Bytes taken from the budget, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    pool: Arc<Pool>,
    bytes: usize,
    holder: Holdings,
}

#[derive(Debug)]
struct Pool {
    limit: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    last_ticket: u64,
    /// Tickets of those who wait.
    line: VecDeque<u64>,
}

/// The longest message that costs nothing.
const FREE_BYTES: usize = 256;

/// How many quick requests of the largest size fit.
const QUICK_REQUESTS: usize = 32;

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let quick = limit / 4;
        Budget { bulk: Pool::new(limit - quick), quick: Pool::new(quick) }
    }

    /// A share for a message of so many bytes, which waits for nothing if it is a short one.
    pub fn admit(&self, bytes: usize, holder: &Holdings, has_left: impl Fn() -> bool) -> Option<Reservation> {
        if bytes > FREE_BYTES || holder.0.load(Ordering::Acquire) > 0 {
            return self.take(bytes, holder, has_left);
        }
        holder.0.fetch_add(1, Ordering::AcqRel);
        Some(Reservation { pool: Arc::clone(&self.quick), bytes: 0, holder: holder.clone() })
    }

    /// Waits until there is room for `bytes`, or until the one who asked `has_left`. A request larger
    /// than the whole budget is let in when no other large one is there.
    pub fn take(&self, bytes: usize, holder: &Holdings, has_left: impl Fn() -> bool) -> Option<Reservation> {
        let is_quick = bytes <= self.quick.limit / QUICK_REQUESTS && holder.0.load(Ordering::Acquire) == 0;
        let pool = if is_quick { &self.quick } else { &self.bulk };
        pool.take(bytes, has_left).then(|| {
            holder.0.fetch_add(1, Ordering::AcqRel);
            Reservation { pool: Arc::clone(pool), bytes, holder: holder.clone() }
        })
    }

    /// Whether somebody waits for room.
    pub fn has_waiters(&self) -> bool {
        self.bulk.has_waiters() || self.quick.has_waiters()
    }

    /// Bytes that are dequeued.
    pub fn used(&self) -> usize {
        self.bulk.lock().used + self.quick.lock().used
    }
}

impl Reservation {
    /// Whether somebody waits for the room that this share takes.
    pub fn has_waiters(&self) -> bool {
        self.pool.has_waiters()
    }

    /// What was read has become something of another size. It is there already, so that nothing waits for room; but
    /// whoever comes next does, until there is some.
    pub fn resize(&mut self, bytes: usize) {
        let mut state = self.pool.lock();
        state.used = state.used - self.bytes + bytes;
        drop(state);
        self.bytes = bytes;
        self.pool.changed.notify_all();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.holder.0.fetch_sub(1, Ordering::AcqRel);
        self.pool.lock().used -= self.bytes;
        self.pool.changed.notify_all();
    }
}

impl Pool {
    fn new(limit: usize) -> Arc<Self> {
        Arc::new(Pool { limit, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Whether there is room now; false if the one who asked has left.
    fn take(&self, bytes: usize, has_left: impl Fn() -> bool) -> bool {
        const LOOK_UP: Duration = Duration::from_millis(100);
        let mut state = self.lock();
        state.last_ticket += 1;
        let ticket = state.last_ticket;
        state.line.push_back(ticket);
        let has_room = loop {
            let fits = state.used == 0 || state.used + bytes <= self.limit;
            if fits && state.line.front() == Some(&ticket) {
                state.used += bytes;
                break true;
            }
            if has_left() {
                break false;
            }
            state = self.changed.wait_timeout(state, LOOK_UP).unwrap_or_else(PoisonError::into_inner).0;
        };
        state.line.retain(|&waiting| waiting != ticket);
        drop(state);
        // The next in the line.
        self.changed.notify_all();
        has_room
    }

    fn has_waiters(&self) -> bool {
        !self.lock().line.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
