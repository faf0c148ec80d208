//! The sessions of one graph. A session runs one thing at a time, so several of them make a pool.
//!
//! The first is for what is run alone, and has every thread. The others run side by side and share the
//! threads among them: one that had more would wait at every operation for a thread that another keeps busy.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use ort::session::Session;

/// What copies of a model's weights may take on the CPU, in bytes. A model of which several fit is
/// small: its operations are too short to be shared among cores, and cores that run images of their own
/// get more of them done.
const COPIES_BYTES: u64 = 256 << 20;

/// How many threads each session of a model of `bytes` bytes has on a CPU with `threads` threads.
pub(super) fn threads_of_sessions(threads: usize, bytes: u64) -> Vec<usize> {
    let fit = usize::try_from(COPIES_BYTES / bytes.max(1)).unwrap_or(usize::MAX).max(1);
    let most = if threads > 1 { threads + 1 } else { 1 };
    let others = fit.min(most) - 1;
    // A single one beside the first runs side by side with it.
    let side_by_side = others.max(2);
    std::iter::once(threads).chain(std::iter::repeat_n(threads.div_ceil(side_by_side), others)).collect()
}

/// What else is run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    /// Nothing of the same batch.
    Alone,
    /// Other pieces of the batch.
    SideBySide,
}

/// Sessions of one graph, the one with all threads first.
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

    /// How many run well side by side.
    pub fn side_by_side(&self) -> usize {
        match self.sessions.len() {
            few @ ..=2 => few,
            count => count - 1,
        }
    }

    /// Waits for a session, of the right kind where one is free, and uses it.
    pub fn with<R>(&self, company: Company, work: impl FnOnce(&mut Session) -> R) -> R {
        let taken = self.take(company);
        work(&mut lock(&self.sessions[taken.number]))
    }

    fn take(&self, company: Company) -> Taken<'_> {
        let mut free = lock(&self.free);
        loop {
            let places = free.iter().enumerate();
            let preferred = match company {
                Company::Alone => places.min_by_key(|&(_, &number)| number),
                Company::SideBySide => places.max_by_key(|&(_, &number)| number),
            };
            match preferred.map(|(place, _)| place) {
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
        assert_eq!(threads_of_sessions(2, 60 << 20), [2, 1, 1]);
        assert_eq!(threads_of_sessions(2, 100 << 20), [2, 1]);
        assert_eq!(threads_of_sessions(16, 60 << 20), [16, 6, 6, 6]);
        assert_eq!(threads_of_sessions(16, 600 << 20), [16]);
        assert_eq!(threads_of_sessions(1, 1), [1]);
        assert_eq!(threads_of_sessions(4, 0), [4, 1, 1, 1, 1]);
    }
}
