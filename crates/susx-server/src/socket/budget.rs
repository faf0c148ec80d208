//! Back-pressure: limits the bytes of requests and replies held by this process.
//!
//! A request reserves its size before it is read. When it is answered, the reservation shrinks or grows to the size of
//! the reply and is released once the reply is sent. Memory is therefore bounded for any number of connections, apart
//! from one message for each. The budget avoids three problems:
//!
//! * Bulk jobs must not fill the budget and block a single image until one of them is done. A quarter of the budget is
//!   kept for small requests from connections without any other reservation.
//! * A full budget must not make the process look dead. The greeting that the supervisor uses as a health check, a
//!   request for statistics and any other short message are admitted at once, one at a time per connection.
//! * A large request must not starve while small ones are admitted. Waiting requests are admitted in order of arrival.

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

/// Number of reservations that one connection holds.
#[derive(Clone, Debug, Default)]
pub struct ReservationCount(Arc<AtomicUsize>);

/// Bytes taken from the budget, returned when dropped.
#[derive(Debug)]
pub struct Reservation {
    pool: Arc<Pool>,
    bytes: usize,
    held: ReservationCount,
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
    /// Tickets of the waiting requests, in order of arrival.
    queue: VecDeque<u64>,
}

/// Longest message, in bytes, that is admitted without using the budget: a greeting or a request for statistics fits.
const FREE_BYTES: usize = 256;

/// Number of quick requests of the largest size that fit into the quick pool. Fewer would let a few requests fill the
/// pool; more would exclude ordinary images from it.
const QUICK_REQUESTS: usize = 32;

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let quick = limit / 4;
        Budget { bulk: Pool::new(limit - quick), quick: Pool::new(quick) }
    }

    /// Reserves memory for a message of `bytes` bytes. Short messages are admitted at once, see the module's
    /// documentation.
    ///
    /// Returns `None` if `is_disconnected` becomes true first.
    pub fn admit(
        &self,
        bytes: usize,
        held: &ReservationCount,
        is_disconnected: impl Fn() -> bool,
    ) -> Option<Reservation> {
        if bytes > FREE_BYTES || held.0.load(Ordering::Acquire) > 0 {
            return self.take(bytes, held, is_disconnected);
        }
        held.0.fetch_add(1, Ordering::AcqRel);
        Some(Reservation { pool: Arc::clone(&self.quick), bytes: 0, held: held.clone() })
    }

    /// Waits until `bytes` bytes are available and reserves them, or returns `None` once `is_disconnected`. A request
    /// larger than its pool is admitted when the pool is empty.
    pub fn take(
        &self,
        bytes: usize,
        held: &ReservationCount,
        is_disconnected: impl Fn() -> bool,
    ) -> Option<Reservation> {
        let is_quick = bytes <= self.quick.limit / QUICK_REQUESTS && held.0.load(Ordering::Acquire) == 0;
        let pool = if is_quick { &self.quick } else { &self.bulk };
        pool.take(bytes, is_disconnected).then(|| {
            held.0.fetch_add(1, Ordering::AcqRel);
            Reservation { pool: Arc::clone(pool), bytes, held: held.clone() }
        })
    }

    /// Whether a request is waiting for memory.
    pub fn has_waiters(&self) -> bool {
        self.bulk.has_waiters() || self.quick.has_waiters()
    }

    /// Reserved bytes.
    pub fn used(&self) -> usize {
        self.bulk.lock().used + self.quick.lock().used
    }
}

impl Reservation {
    /// Whether a request is waiting for memory of the same pool.
    pub fn has_waiters(&self) -> bool {
        self.pool.has_waiters()
    }

    /// Changes the size of the reservation. Never waits, because the memory is already in use; the pool may exceed its
    /// limit, and then later requests wait.
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
        self.held.0.fetch_sub(1, Ordering::AcqRel);
        self.pool.lock().used -= self.bytes;
        self.pool.changed.notify_all();
    }
}

impl Pool {
    fn new(limit: usize) -> Arc<Self> {
        Arc::new(Pool { limit, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Waits for `bytes` bytes and takes them; false if `is_disconnected` became true first.
    fn take(&self, bytes: usize, is_disconnected: impl Fn() -> bool) -> bool {
        const CHECK_INTERVAL: Duration = Duration::from_millis(100);
        let mut state = self.lock();
        state.last_ticket += 1;
        let ticket = state.last_ticket;
        state.queue.push_back(ticket);
        let admitted = loop {
            let fits = state.used == 0 || state.used + bytes <= self.limit;
            if fits && state.queue.front() == Some(&ticket) {
                state.used += bytes;
                break true;
            }
            if is_disconnected() {
                break false;
            }
            state =
                self.changed.wait_timeout(state, CHECK_INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
        };
        state.queue.retain(|&waiting| waiting != ticket);
        drop(state);
        // The next request in the queue may fit now.
        self.changed.notify_all();
        admitted
    }

    fn has_waiters(&self) -> bool {
        !self.lock().queue.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
