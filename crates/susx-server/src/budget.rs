//! Back-pressure: how many bytes of requests may wait.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes shared by all connections.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: Mutex<usize>,
    freed: Condvar,
}

/// Bytes taken from a budget, given back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Budget { limit, used: Mutex::new(0), freed: Condvar::new() })
    }

    /// Waits until there is room for `bytes`, or until the one who asked `has_left`. A request larger
    /// than the whole budget is let in alone.
    pub fn take(self: &Arc<Self>, bytes: usize, has_left: impl Fn() -> bool) -> Option<Share> {
        const LOOK_UP: Duration = Duration::from_millis(100);
        let mut used = self.lock();
        while *used > 0 && *used + bytes > self.limit {
            if has_left() {
                return None;
            }
            used = self.freed.wait_timeout(used, LOOK_UP).unwrap_or_else(PoisonError::into_inner).0;
        }
        *used += bytes;
        Some(Share { budget: Arc::clone(self), bytes })
    }

    /// Bytes that are taken.
    pub fn used(&self) -> usize {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *self.budget.lock() -= self.bytes;
        self.budget.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_comes_back() {
        let budget = Budget::new(10);
        let first = budget.take(8, || false);
        assert!(budget.take(3, || true).is_none());
        drop(first);
        let all = budget.take(100, || true);
        assert!(all.is_some(), "a request larger than the budget runs alone");
        assert!(budget.take(1, || true).is_none());
    }
}
