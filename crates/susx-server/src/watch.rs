//! Work on a model that may never end: it is watched, and what is stuck ends the process.
//!
//! A model's files may say anything: a graph may have a loop without an end, a tokenizer an expression that takes for
//! ever. Native code that is at it cannot be stopped, and would compute until somebody
//! notices. So whatever takes longer than its limit is remembered, by [`StuckModels`](crate::stuck::StuckModels), and
//! the process ends; the next one leaves that model alone.
//!
//! Time counts in steps of a look. A process that stood still, with its machine perhaps, has had no time to work.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two looks.
pub const LOOK: Duration = Duration::from_millis(100);

/// What is being done with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Loading,
    Tokenizing,
    /// A batch.
    Running,
}

/// Work that has taken too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overdue {
    pub model: String,
    pub work: Work,
    pub limit: Duration,
}

/// All work that is watched.
#[derive(Debug)]
pub struct Watch {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last_number: u64,
    items: HashMap<u64, Item>,
    looked: Instant,
}

#[derive(Debug)]
struct Item {
    what: Overdue,
    time: Duration,
}

/// Work that goes on as long as this lives.
#[derive(Debug)]
pub struct Watched<'a> {
    watch: &'a Watch,
    number: u64,
}

impl Default for Watch {
    fn default() -> Self {
        let state = State { last_number: 0, items: HashMap::new(), looked: Instant::now() };
        Watch { state: Mutex::new(state) }
    }
}

impl Watch {
    /// Begins with work; a limit of zero is none.
    pub fn begin(&self, model: &str, work: Work, limit: Duration) -> Watched<'_> {
        let mut state = self.lock();
        state.last_number += 1;
        let number = state.last_number;
        let what = Overdue { model: model.to_owned(), work, limit };
        state.items.insert(number, Item { what, time: Duration::ZERO });
        Watched { watch: self, number }
    }

    /// What has taken longer than its limit: of several, what has gone on for longest. The others may have waited for
    /// the threads that it keeps, and the next process tries them again.
    pub fn look(&self) -> Option<Overdue> {
        self.look_at(Instant::now())
    }

    fn look_at(&self, now: Instant) -> Option<Overdue> {
        let mut state = self.lock();
        let step = now.saturating_duration_since(state.looked).min(3 * LOOK);
        state.looked = now;
        state.items.values_mut().for_each(|item| item.time += step);
        let is_overdue = |item: &Item| !item.what.limit.is_zero() && item.time > item.what.limit;
        let overdue = state.items.iter().filter(|(_, item)| is_overdue(item));
        let longest = overdue.max_by_key(|&(&number, item)| (item.time, Reverse(number)));
        longest.map(|(_, item)| item.what.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.watch.lock().items.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_longer_than_its_limit_is_found() {
        let watch = Watch::default();
        let begin = watch.lock().looked;
        let slow = watch.begin("slow", Work::Loading, 5 * LOOK);
        let _free = watch.begin("free", Work::Loading, Duration::ZERO);
        // It waits for the threads that the first one keeps.
        let waiting = watch.begin("waiting", Work::Loading, 5 * LOOK);
        let mut overdue = None;
        for look in 1..=7 {
            overdue = watch.look_at(begin + look * LOOK);
            assert_eq!(overdue.is_none(), look <= 5, "{look}");
        }
        let slowest = Overdue { model: "slow".to_owned(), work: Work::Loading, limit: 5 * LOOK };
        assert_eq!(overdue, Some(slowest));
        drop((slow, waiting));
        assert!(watch.look_at(begin + 100 * LOOK).is_none());
    }

    #[test]
    fn time_in_which_the_process_stood_still_does_not_count() {
        let watch = Watch::default();
        let begin = Instant::now();
        let _work = watch.begin("m", Work::Tokenizing, 5 * LOOK);
        assert!(watch.look_at(begin + Duration::from_secs(3600)).is_none());
        assert!(watch.look_at(begin + Duration::from_secs(3600) + LOOK).is_none());
    }
}
