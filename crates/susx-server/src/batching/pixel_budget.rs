//! Limits the pixels that are decoded at the same time.
//!
//! A decoder takes several bytes per pixel, and every thread may run one. Together they decode no more pixels at a time
//! than one image may have, so susx.max_image_pixels bounds the memory of decoding, for any number of threads.
//!
//! An image that two models embed is decoded by one of them, and its values are kept for the other one, which takes
//! them when it is its turn. Decoders never wait for such values: they are counted apart, and not kept beyond an eighth
//! of the limit.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A number of pixels that decoders share.
#[derive(Debug)]
pub struct PixelBudget {
    limit: u64,
    used: Mutex<u64>,
    kept: Mutex<u64>,
    changed: Condvar,
}

/// Pixels taken from the budget, returned when dropped.
#[derive(Debug)]
pub struct PixelPermit<'a> {
    budget: &'a PixelBudget,
    count: u64,
}

/// Pixels of the values that are kept for a model, returned when dropped.
#[derive(Debug)]
pub struct KeptPixels {
    budget: Arc<PixelBudget>,
    count: u64,
}

/// The part of the limit that may be kept.
const KEPT_SHARE: u64 = 8;

impl PixelBudget {
    /// A budget of `limit` pixels.
    pub fn new(limit: u64) -> Self {
        PixelBudget { limit, used: Mutex::new(0), kept: Mutex::new(0), changed: Condvar::new() }
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

    /// Takes `count` pixels for values to keep; `None` if there are none left. Never waits.
    pub fn keep(self: &Arc<Self>, count: u64) -> Option<KeptPixels> {
        let mut kept = self.lock_kept();
        if *kept + count > self.limit / KEPT_SHARE {
            return None;
        }
        *kept += count;
        Some(KeptPixels { budget: Arc::clone(self), count })
    }

    /// Pixels of the values that are kept.
    #[cfg(test)]
    pub fn kept(&self) -> u64 {
        *self.lock_kept()
    }

    fn lock_kept(&self) -> MutexGuard<'_, u64> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Drop for KeptPixels {
    fn drop(&mut self) {
        *self.budget.lock_kept() -= self.count;
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

    #[test]
    fn values_are_kept_up_to_their_share_and_keep_nobody_waiting() {
        let budget = Arc::new(PixelBudget::new(80));
        let kept = [6, 4].map(|count| budget.keep(count));
        assert!(kept.iter().all(Option::is_some));
        assert!(budget.keep(1).is_none());
        // All of the limit is left for decoders.
        drop(budget.take(80));
        drop(kept);
        assert!(budget.keep(11).is_none() && budget.keep(10).is_some());
    }
}
