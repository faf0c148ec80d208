//! Limits the pixels that are decoded at the same time.
//!
//! A decoder takes several bytes per pixel, and every thread may run one. Together they decode no more pixels at a
//! time than one image may have, so susx.max_image_pixels bounds the memory of decoding, whatever the number of
//! threads.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A number of pixels that decoders share.
#[derive(Debug)]
pub struct PixelBudget {
    limit: u64,
    used: Mutex<u64>,
    changed: Condvar,
}

/// Pixels taken from the budget, returned when dropped.
#[derive(Debug)]
pub struct PixelPermit<'a> {
    budget: &'a PixelBudget,
    count: u64,
}

impl PixelBudget {
    /// A budget of `limit` pixels.
    pub fn new(limit: u64) -> Self {
        PixelBudget { limit, used: Mutex::new(0), changed: Condvar::new() }
    }

    /// Waits until `count` pixels are available and takes them. An image larger than the budget is decoded alone.
    pub fn take(&self, count: u64) -> PixelPermit<'_> {
        let mut used = self.lock();
        while *used > 0 && *used + count > self.limit {
            used = self.changed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used += count;
        PixelPermit { budget: self, count }
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PixelPermit<'_> {
    fn drop(&mut self) {
        *self.budget.lock() -= self.count;
        self.budget.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn the_limit_is_never_exceeded() {
        let budget = PixelBudget::new(100);
        let max_used = Mutex::new(0);
        thread::scope(|scope| {
            for count in [60, 30, 100, 10, 50, 50, 1, 99].repeat(4) {
                let (budget, max_used) = (&budget, &max_used);
                scope.spawn(move || {
                    let _pixels = budget.take(count);
                    let used = *budget.lock();
                    let mut max_used = max_used.lock().unwrap_or_else(PoisonError::into_inner);
                    *max_used = used.max(*max_used);
                    drop(max_used);
                    thread::sleep(Duration::from_millis(1));
                });
            }
        });
        assert_eq!(*budget.lock(), 0);
        assert!(*max_used.lock().unwrap_or_else(PoisonError::into_inner) <= 100);
    }
}
