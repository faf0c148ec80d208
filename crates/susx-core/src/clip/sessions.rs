//! The sessions of one graph. A session runs one thing at a time, so several of them make a pool.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use ort::session::Session;

/// What copies of a model's weights may take on the CPU, in bytes. A model of which several fit is
/// small: its operations are too short to be shared among cores, and cores that run images of their own
/// get more of them done.
const COPIES_BYTES: u64 = 256 << 20;

/// How many sessions of a model of `bytes` bytes are to share `threads` threads on the CPU.
pub(super) fn copies(threads: usize, bytes: u64) -> usize {
    let fit = usize::try_from(COPIES_BYTES / bytes.max(1)).unwrap_or(usize::MAX);
    fit.clamp(1, threads.max(1))
}

/// Sessions of one graph, the preferred one first.
pub(super) struct Sessions {
    /// Each is locked by the one who took its number.
    sessions: Vec<Mutex<Session>>,
    /// Numbers of the sessions that nobody has.
    free: Mutex<Vec<usize>>,
    freed: Condvar,
}

/// The right to a session, given back when dropped.
struct Taken<'a> {
    number: usize,
    home: &'a Sessions,
}

impl Sessions {
    pub fn new(sessions: Vec<Session>) -> Sessions {
        let free = Mutex::new((0..sessions.len()).collect());
        Sessions { sessions: sessions.into_iter().map(Mutex::new).collect(), free, freed: Condvar::new() }
    }

    /// How many can be used at once.
    pub fn count(&self) -> usize {
        self.sessions.len()
    }

    /// Waits for a session, the first one where it is free, and uses it.
    pub fn with<R>(&self, work: impl FnOnce(&mut Session) -> R) -> R {
        let taken = self.take();
        work(&mut lock(&self.sessions[taken.number]))
    }

    fn take(&self) -> Taken<'_> {
        let mut free = lock(&self.free);
        loop {
            let first = free.iter().enumerate().min_by_key(|&(_, &number)| number).map(|(place, _)| place);
            match first {
                Some(place) => return Taken { number: free.swap_remove(place), home: self },
                None => free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        lock(&self.home.free).push(self.number);
        self.home.freed.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in between leaves a list of numbers, or a session that ONNX Runtime keeps in order.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_models_are_copied_within_bounds() {
        assert_eq!(copies(2, 60 << 20), 2);
        assert_eq!(copies(16, 60 << 20), 4);
        assert_eq!(copies(16, 600 << 20), 1);
        assert_eq!(copies(0, 0), 1);
    }
}
