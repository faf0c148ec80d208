//! Pictures that are being decoded, counted in pixels.
//!
//! A decoder takes several bytes for each pixel, and there are as many decoders as threads. All of them together have no
//! more pixels at a time than one picture may have: so it is that limit, and not the number of threads, that says how much
//! memory decoding takes.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Room for so many pixels.
#[derive(Debug)]
pub struct PixelBudget {
    limit: u64,
    used: Mutex<u64>,
    changed: Condvar,
}

/// Pixels that are being decoded, as long as it lives.
#[derive(Debug)]
pub struct PixelPermit<'a> {
    room: &'a PixelBudget,
    count: u64,
}

impl PixelBudget {
    pub fn new(limit: u64) -> Self {
        PixelBudget { limit, used: Mutex::new(0), changed: Condvar::new() }
    }

    /// Waits until there is room for so many.
    pub fn take(&self, count: u64) -> PixelPermit<'_> {
        let mut used = self.lock();
        while *used > 0 && *used + count > self.limit {
            used = self.changed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used += count;
        PixelPermit { room: self, count }
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PixelPermit<'_> {
    fn drop(&mut self) {
        *self.room.lock() -= self.count;
        self.room.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn together_they_are_no_more_than_one_may_be() {
        let room = PixelBudget::new(100);
        let most = Mutex::new(0);
        thread::scope(|scope| {
            for count in [60, 30, 100, 10, 50, 50, 1, 99].repeat(4) {
                let (room, most) = (&room, &most);
                scope.spawn(move || {
                    let _pixels = room.take(count);
                    let used = *room.lock();
                    let mut most = most.lock().unwrap_or_else(PoisonError::into_inner);
                    *most = used.max(*most);
                    drop(most);
                    thread::sleep(Duration::from_millis(1));
                });
            }
        });
        assert_eq!(*room.lock(), 0);
        assert!(*most.lock().unwrap_or_else(PoisonError::into_inner) <= 100);
    }
}
