//! The pool of sessions of one graph. A session runs one batch at a time.
//!
//! The first session is for serial runs and has all threads. The others run in parallel and share the threads:
//! with more threads each, a session would wait in every operation for a thread that another keeps busy.
//!
//! If all sessions are busy, a single input is next. It waits for a piece of a batch, not for the whole batch.

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
    /// The batch has one input, which goes before the parts of other batches.
    Single,
    /// No other part does.
    Serial,
    /// Other parts do.
    Parallel,
}

/// The sessions of one graph. The first has all threads.
pub(super) struct Sessions<S = Session> {
    /// Each is locked only by the thread that took its number from `idle`.
    sessions: Vec<Mutex<S>>,
    idle: Mutex<Idle>,
    /// Notified when a session becomes idle, and when no single input waits for one any more.
    changed: Condvar,
}

/// The idle sessions, and who waits for one.
struct Idle {
    /// Numbers of the idle sessions.
    numbers: Vec<usize>,
    /// How many single inputs wait for a session.
    singles: usize,
}

/// The exclusive right to a session, returned to the pool on drop.
struct Taken<'a, S> {
    number: usize,
    pool: &'a Sessions<S>,
}

impl<S> Sessions<S> {
    pub fn new(sessions: Vec<S>) -> Self {
        let idle = Mutex::new(Idle { numbers: (0..sessions.len()).collect(), singles: 0 });
        Sessions { sessions: sessions.into_iter().map(Mutex::new).collect(), idle, changed: Condvar::new() }
    }

    /// The number of runs that make good use of the CPU in parallel.
    pub fn concurrency(&self) -> usize {
        match self.sessions.len() {
            few @ ..=2 => few,
            count => count - 1,
        }
    }

    /// Waits for an idle session, if possible one that suits `concurrency`, and calls `work` with it.
    pub fn with<R>(&self, concurrency: Concurrency, work: impl FnOnce(&mut S) -> R) -> R {
        let taken = self.take(concurrency);
        work(&mut lock(&self.sessions[taken.number]))
    }

    fn take(&self, concurrency: Concurrency) -> Taken<'_, S> {
        let mut idle = lock(&self.idle);
        let is_single = concurrency == Concurrency::Single;
        idle.singles += usize::from(is_single);
        loop {
            match idle.preferred(concurrency).filter(|_| is_single || idle.singles == 0) {
                Some(place) => {
                    let number = idle.numbers.swap_remove(place);
                    if is_single {
                        idle.singles -= 1;
                        self.changed.notify_all();
                    }
                    return Taken { number, pool: self };
                }
                None => idle = self.changed.wait(idle).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Idle {
    /// The place in `numbers` of the session that suits best.
    fn preferred(&self, concurrency: Concurrency) -> Option<usize> {
        let places = self.numbers.iter().enumerate();
        let preferred = match concurrency {
            Concurrency::Single | Concurrency::Serial => places.min_by_key(|&(_, &number)| number),
            Concurrency::Parallel => places.max_by_key(|&(_, &number)| number),
        };
        preferred.map(|(place, _)| place)
    }
}

impl<S> Drop for Taken<'_, S> {
    fn drop(&mut self) {
        lock(&self.pool.idle).numbers.push(self.number);
        self.pool.changed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic leaves both the list of numbers and the session in a valid state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_single_input_goes_before_the_pieces_that_wait() {
        let (pool, order) = (Sessions::new(vec![()]), Mutex::new(Vec::new()));
        let run = |concurrency| pool.with(concurrency, |()| lock(&order).push(concurrency));
        thread::scope(|scope| {
            let busy = pool.take(Concurrency::Serial);
            for concurrency in [Concurrency::Serial, Concurrency::Parallel, Concurrency::Single] {
                scope.spawn(move || run(concurrency));
            }
            while lock(&pool.idle).singles == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            drop(busy);
        });
        let order = lock(&order);
        assert_eq!((order[0], order.len()), (Concurrency::Single, 3));
    }

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
