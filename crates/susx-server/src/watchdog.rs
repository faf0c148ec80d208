//! Ends the process when work on a model never finishes.
//!
//! A model's files are not trusted: a graph may loop forever, and a regular expression of a tokenizer may backtrack
//! forever. Native code cannot be interrupted. So when an activity exceeds its limit, the model is recorded in
//! [`StuckModels`](crate::models::stuck_models::StuckModels) and the process ends; the next process does not load that
//! model.
//!
//! Every check counts at most a few intervals, so the time during which the process or the machine was suspended does
//! not count.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time between two checks.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// What the process is doing with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    Loading,
    Tokenizing,
    /// Running the model on a batch.
    Batch,
}

/// An activity that has exceeded its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overdue {
    pub model: String,
    pub activity: Activity,
    pub limit: Duration,
}

/// All activities in progress.
#[derive(Debug)]
pub struct Watchdog {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last_number: u64,
    activities: HashMap<u64, Tracked>,
    last_check: Instant,
}

#[derive(Debug)]
struct Tracked {
    overdue: Overdue,
    elapsed: Duration,
}

/// Ends its activity when dropped.
#[derive(Debug)]
pub struct WatchGuard<'a> {
    watchdog: &'a Watchdog,
    number: u64,
}

impl Default for Watchdog {
    fn default() -> Self {
        let state = State { last_number: 0, activities: HashMap::new(), last_check: Instant::now() };
        Watchdog { state: Mutex::new(state) }
    }
}

impl Watchdog {
    /// Starts an activity; a limit of zero means none.
    pub fn begin(&self, model: &str, activity: Activity, limit: Duration) -> WatchGuard<'_> {
        let mut state = self.lock();
        state.last_number += 1;
        let number = state.last_number;
        let overdue = Overdue { model: model.to_owned(), activity, limit };
        state.activities.insert(number, Tracked { overdue, elapsed: Duration::ZERO });
        WatchGuard { watchdog: self, number }
    }

    /// The activity that has exceeded its limit; of several, the one that has run for longest. The others may
    /// only have waited for the threads that it occupies, and the next process tries them again.
    pub fn overdue(&self) -> Option<Overdue> {
        self.overdue_at(Instant::now())
    }

    fn overdue_at(&self, now: Instant) -> Option<Overdue> {
        let mut state = self.lock();
        let step = now.saturating_duration_since(state.last_check).min(3 * INTERVAL);
        state.last_check = now;
        state.activities.values_mut().for_each(|item| item.elapsed += step);
        let is_overdue = |item: &Tracked| !item.overdue.limit.is_zero() && item.elapsed > item.overdue.limit;
        let overdue = state.activities.iter().filter(|(_, item)| is_overdue(item));
        let longest = overdue.max_by_key(|&(&number, item)| (item.elapsed, Reverse(number)));
        longest.map(|(_, item)| item.overdue.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WatchGuard<'_> {
    fn drop(&mut self) {
        self.watchdog.lock().activities.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_activity_that_exceeds_its_limit() {
        let watch = Watchdog::default();
        let begin = watch.lock().last_check;
        let slow = watch.begin("slow", Activity::Loading, 5 * INTERVAL);
        let _free = watch.begin("free", Activity::Loading, Duration::ZERO);
        // Waits for the threads that the first one occupies.
        let waiting = watch.begin("waiting", Activity::Loading, 5 * INTERVAL);
        let mut overdue = None;
        for check in 1..=7 {
            overdue = watch.overdue_at(begin + check * INTERVAL);
            assert_eq!(overdue.is_none(), check <= 5, "{check}");
        }
        let slowest = Overdue { model: "slow".to_owned(), activity: Activity::Loading, limit: 5 * INTERVAL };
        assert_eq!(overdue, Some(slowest));
        drop((slow, waiting));
        assert!(watch.overdue_at(begin + 100 * INTERVAL).is_none());
    }

    #[test]
    fn ignores_time_in_which_the_process_was_suspended() {
        let watch = Watchdog::default();
        let begin = Instant::now();
        let _activity = watch.begin("m", Activity::Tokenizing, 5 * INTERVAL);
        assert!(watch.overdue_at(begin + Duration::from_secs(3600)).is_none());
        assert!(watch.overdue_at(begin + Duration::from_secs(3600) + INTERVAL).is_none());
    }
}
