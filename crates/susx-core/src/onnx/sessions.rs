//! The pool of sessions of one graph. A session runs one batch at a time.
//!
//! The first session is for serial runs and has all threads. The others run in parallel and share the threads:
//! with more threads each, a session would wait in every operation for a thread that another keeps busy.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use ort::session::Session;

/// Limit of the copies of a model's weights on the CPU, in bytes. The operations of a small model are too short to be
/// spread over several cores, so it has a higher throughput if each core runs its own images.
const MAX_COPIES_BYTES: u64 = 256 << 20;

/// The number of threads for each session of a model of `bytes` bytes on a CPU with `threads` threads.
pub fn threads_of_sessions(threads: usize, bytes: u64) -> Vec<usize> {
    let fit = usize::try_from(MAX_COPIES_BYTES / bytes.max(1)).unwrap_or(usize::MAX).max(1);
    let most = if threads > 1 { threads + 1 } else { 1 };
    let others = fit.min(most) - 1;
    // A single further session runs in parallel with the first.
    let parallel = others.max(2);
    std::iter::once(threads).chain(std::iter::repeat_n(threads.div_ceil(parallel), others)).collect()
}

/// Whether other parts of the same batch run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// No other part does.
    Serial,
    /// Other parts do.
    Parallel,
}

/// The sessions of one graph. The first has all threads.
pub(super) struct Sessions {
    /// Each is locked only by the thread that took its number from `free`.
    sessions: Vec<Mutex<Session>>,
    /// Numbers of the idle sessions.
    free: Mutex<Vec<usize>>,
    freed: Condvar,
}

/// The exclusive right to a session, returned to the pool on drop.
struct Taken<'a> {
    number: usize,
    pool: &'a Sessions,
}

impl Sessions {
    pub fn new(sessions: Vec<Session>) -> Sessions {
        let free = Mutex::new((0..sessions.len()).collect());
        Sessions { sessions: sessions.into_iter().map(Mutex::new).collect(), free, freed: Condvar::new() }
    }

    /// The number of sessions.
    pub fn count(&self) -> usize {
        self.sessions.len()
    }

    /// The number of runs that make good use of the CPU in parallel.
    pub fn concurrency(&self) -> usize {
        match self.sessions.len() {
            few @ ..=2 => few,
            count => count - 1,
        }
    }

    /// Waits for an idle session, if possible one that suits `concurrency`, and calls `work` with it.
    pub fn with<R>(&self, concurrency: Concurrency, work: impl FnOnce(&mut Session) -> R) -> R {
        let taken = self.take(concurrency);
        work(&mut lock(&self.sessions[taken.number]))
    }

    fn take(&self, concurrency: Concurrency) -> Taken<'_> {
        let mut free = lock(&self.free);
        loop {
            let places = free.iter().enumerate();
            let preferred = match concurrency {
                Concurrency::Serial => places.min_by_key(|&(_, &number)| number),
                Concurrency::Parallel => places.max_by_key(|&(_, &number)| number),
            };
            match preferred.map(|(place, _)| place) {
                Some(place) => return Taken { number: free.swap_remove(place), pool: self },
                None => free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        lock(&self.pool.free).push(self.number);
        self.pool.freed.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic leaves both the list of numbers and the session in a valid state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_models_are_copied_within_bounds() {
        assert_eq!(threads_of_sessions(2, 60 << 20), [2, 1, 1]);
        assert_eq!(threads_of_sessions(2, 100 << 20), [2, 1]);
        assert_eq!(threads_of_sessions(16, 60 << 20), [16, 6, 6, 6]);
        assert_eq!(threads_of_sessions(16, 600 << 20), [16]);
        assert_eq!(threads_of_sessions(1, 1), [1]);
        assert_eq!(threads_of_sessions(4, 0), [4, 1, 1, 1, 1]);
    }
}
