//! Who holds how much of the memory for models.
//!
//! A model counts with the size of its graphs and weights on disk, from before it is loaded until it is freed.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The models that are loaded, that are being loaded, and that are not freed yet.
#[derive(Debug, Default)]
pub struct Ledger {
    shares: Mutex<Shares>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Shares {
    last_number: u64,
    by_number: HashMap<u64, Share>,
}

#[derive(Debug)]
struct Share {
    model: String,
    bytes: u64,
    /// Whether it is freed as soon as its last input is answered.
    is_leaving: bool,
}

/// A model to load.
#[derive(Clone, Copy, Debug)]
pub struct Need<'a> {
    pub model: &'a str,
    pub bytes: u64,
    /// Name and size of another model that the same request needs. The two may be loaded together in any case.
    pub beside: Option<(&'a str, u64)>,
}

/// The answer to a [`Need`].
#[derive(Debug)]
pub enum Verdict {
    Granted(Room),
    /// Models that are leaving hold the room: wait for them.
    Wait,
    /// Other models have to be unloaded.
    Unload,
}

/// The room of one model, which is released on drop.
#[derive(Debug)]
pub struct Room {
    ledger: Arc<Ledger>,
    number: u64,
}

impl Ledger {
    /// Grants the room if all models together then have at most `limit` bytes, or if there are no others.
    pub fn request(self: &Arc<Self>, need: &Need, limit: u64) -> Verdict {
        let shares = self.lock();
        let is_beside = |share: &Share| need.beside.is_some_and(|(name, _)| name == share.model);
        let others = || shares.by_number.values().filter(|share| !is_beside(share));
        let wanted = need.bytes.saturating_add(need.beside.map_or(0, |(_, bytes)| bytes));
        let fits = |others: u64| others == 0 || others.saturating_add(wanted) <= limit;
        let staying = others().filter(|share| !share.is_leaving).map(|share| share.bytes).sum();
        match (fits(others().map(|share| share.bytes).sum()), fits(staying)) {
            (true, _) => Verdict::Granted(self.add(shares, need)),
            (false, true) => Verdict::Wait,
            (false, false) => Verdict::Unload,
        }
    }

    /// The room, regardless of what the others hold.
    pub fn force(self: &Arc<Self>, need: &Need) -> Room {
        self.add(self.lock(), need)
    }

    /// Bytes of all models.
    pub fn used(&self) -> u64 {
        self.lock().by_number.values().map(|share| share.bytes).sum()
    }

    /// Names of the models that are leaving.
    pub fn leaving(&self) -> Vec<String> {
        let shares = self.lock();
        let leaving = shares.by_number.values().filter(|share| share.is_leaving);
        leaving.map(|share| share.model.clone()).collect()
    }

    /// Waits until a model is freed, at most for this time.
    pub fn wait(&self, timeout: Duration) {
        // What has happened is found out by the next request.
        drop(self.freed.wait_timeout(self.lock(), timeout));
    }

    fn add(self: &Arc<Self>, mut shares: MutexGuard<Shares>, need: &Need) -> Room {
        shares.last_number += 1;
        let number = shares.last_number;
        let share = Share { model: need.model.to_owned(), bytes: need.bytes, is_leaving: false };
        shares.by_number.insert(number, share);
        Room { ledger: Arc::clone(self), number }
    }

    fn lock(&self) -> MutexGuard<'_, Shares> {
        // The state is valid after every statement.
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// Marks the model as leaving: it gets no new inputs.
    pub fn leave(&self) {
        if let Some(share) = self.ledger.lock().by_number.get_mut(&self.number) {
            share.is_leaving = true;
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.ledger.lock().by_number.remove(&self.number);
        self.ledger.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 100;

    fn need(model: &str, bytes: u64) -> Need<'_> {
        Need { model, bytes, beside: None }
    }

    fn granted(ledger: &Arc<Ledger>, need: &Need) -> Room {
        match ledger.request(need, LIMIT) {
            Verdict::Granted(room) => room,
            other => panic!("{need:?}: {other:?}"),
        }
    }

    #[test]
    fn models_share_the_memory() {
        let ledger = Arc::default();
        let a = granted(&ledger, &need("a", 60));
        let b = granted(&ledger, &need("b", 40));
        assert_eq!(ledger.used(), LIMIT);
        assert!(matches!(ledger.request(&need("c", 1), LIMIT), Verdict::Unload));
        a.leave();
        assert_eq!(ledger.leaving(), ["a"]);
        assert!(matches!(ledger.request(&need("c", 60), LIMIT), Verdict::Wait));
        assert!(matches!(ledger.request(&need("c", 61), LIMIT), Verdict::Unload));
        drop(a);
        let c = granted(&ledger, &need("c", 60));
        drop((b, c));
        assert_eq!(ledger.used(), 0);
    }

    #[test]
    fn a_model_larger_than_the_limit_is_alone() {
        let ledger = Arc::default();
        let large = granted(&ledger, &need("large", 500));
        assert!(matches!(ledger.request(&need("small", 1), LIMIT), Verdict::Unload));
        drop(large);
        let small = granted(&ledger, &need("small", 1));
        assert!(matches!(ledger.request(&need("large", 500), LIMIT), Verdict::Unload));
        let forced = ledger.force(&need("large", 500));
        assert_eq!(ledger.used(), 501);
        drop((small, forced));
    }

    #[test]
    fn two_models_of_one_request_do_not_wait_for_each_other() {
        let ledger = Arc::default();
        let pair = |model, other| Need { model, bytes: 70, beside: Some((other, 70)) };
        let c = granted(&ledger, &need("c", 1));
        // Both have to fit in addition to the third.
        assert!(matches!(ledger.request(&pair("a", "b"), LIMIT), Verdict::Unload));
        drop(c);
        let a = granted(&ledger, &pair("a", "b"));
        let b = granted(&ledger, &pair("b", "a"));
        assert_eq!(ledger.used(), 140);
        drop((a, b));
    }

    #[test]
    fn the_old_copy_of_a_model_goes_first() {
        let ledger = Arc::default();
        let old = granted(&ledger, &need("a", 60));
        assert!(matches!(ledger.request(&need("a", 60), LIMIT), Verdict::Unload));
        old.leave();
        assert!(matches!(ledger.request(&need("a", 60), LIMIT), Verdict::Wait));
        std::thread::scope(|scope| {
            scope.spawn(|| drop(old));
            while ledger.used() > 0 {
                ledger.wait(Duration::from_millis(10));
            }
        });
        granted(&ledger, &need("a", 60));
    }
}
