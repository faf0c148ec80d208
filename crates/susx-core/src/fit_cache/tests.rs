//! The states of an entry one by one, and the whole machine against a session that keeps nothing.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

impl Snapshot for u32 {
    fn is_older_than(self, other: u32) -> bool {
        self < other
    }
}

/// A fit of a version of the rows.
#[derive(Debug, PartialEq)]
struct Fitted {
    version: u32,
    size: u64,
}

impl Fit for Fitted {
    fn size(&self) -> u64 {
        self.size
    }
}

type Cache = FitCache<u8, u8, u32, u32, u32, Fitted>;

const KEY: (u8, u8) = (1, 0);

fn reader(snapshot: u32, statement: u32) -> Reader<u32, u32> {
    Reader { snapshot, statement: Some(statement), within: Some(statement) }
}

fn insert(
    cache: &mut Cache,
    key: (u8, u8),
    version: u32,
    validity: Validity<u32, u32>,
    reader: Reader<u32, u32>,
) {
    cache.insert(key, Rc::new(Fitted { version, size: 10 }), validity, reader, u64::MAX, |_| false);
}

fn version(fit: Option<Rc<Fitted>>) -> Option<u32> {
    fit.map(|fit| fit.version)
}

#[test]
fn a_statement_uses_its_own_fit_again_in_every_state() {
    for validity in
        [Validity::OneStatement, Validity::Versions(7), Validity::Followed { versions: 7, since: 3 }]
    {
        let mut cache = Cache::default();
        insert(&mut cache, KEY, 7, validity, reader(5, 1));
        cache.announce(None);
        assert_eq!(version(cache.used_by(KEY, reader(5, 1))), Some(7), "{validity:?}");
        assert_eq!(version(cache.used_by(KEY, reader(5, 2))), None, "another statement");
        assert_eq!(version(cache.used_by(KEY, reader(6, 1))), None, "another snapshot");
        assert_eq!(version(cache.used_by((1, 9), reader(5, 1))), None, "another user");
    }
    let mut cache = Cache::default();
    let unknown = Reader { snapshot: 5, statement: None, within: Some(1) };
    insert(&mut cache, KEY, 7, Validity::Versions(7), unknown);
    assert_eq!(version(cache.used_by(KEY, unknown)), None, "statements that cannot be told apart");
}

#[test]
fn a_fit_of_one_statement_ends_with_it() {
    let mut cache = Cache::default();
    insert(&mut cache, KEY, 7, Validity::OneStatement, reader(5, 1));
    assert_eq!(version(cache.followed(KEY, reader(5, 2))), None);
    assert_eq!(version(cache.of_versions(KEY, 7, reader(5, 2))), None);
    cache.follow(KEY, 5, 0);
    assert_eq!(version(cache.followed(KEY, reader(5, 2))), None, "it cannot be followed");
    cache.end_statement(2);
    assert_eq!(version(cache.used_by(KEY, reader(5, 1))), Some(7));
    cache.end_statement(1);
    assert_eq!(version(cache.used_by(KEY, reader(5, 1))), None);
}

#[test]
fn a_fit_of_versions_answers_whoever_sees_them() {
    let mut cache = Cache::default();
    insert(&mut cache, KEY, 7, Validity::Versions(7), reader(5, 1));
    cache.end_statement(1);
    assert_eq!(version(cache.followed(KEY, reader(5, 2))), None);
    assert_eq!(version(cache.of_versions(KEY, 8, reader(5, 2))), None);
    assert_eq!(version(cache.of_versions(KEY, 7, reader(9, 2))), Some(7));
    assert_eq!(cache.unfollowed(), [1]);
}

#[test]
fn a_followed_fit_answers_until_a_change_is_announced() {
    let mut cache = Cache::default();
    insert(&mut cache, KEY, 7, Validity::Versions(7), reader(5, 1));
    cache.follow(KEY, 6, 0);
    assert!(cache.unfollowed().is_empty());
    assert_eq!(version(cache.followed(KEY, reader(5, 2))), None, "an older snapshot");
    assert_eq!(version(cache.followed(KEY, reader(6, 2))), Some(7));
    cache.announce(Some(2));
    assert_eq!(version(cache.followed(KEY, reader(8, 3))), Some(7), "another relation");
    cache.announce(Some(1));
    assert_eq!(version(cache.followed(KEY, reader(8, 4))), None);
    assert_eq!(version(cache.of_versions(KEY, 7, reader(8, 4))), Some(7), "the change was rolled back");
    // Announced between the look at the versions and the decision to follow them.
    let announcements = cache.announcements(KEY).unwrap();
    cache.announce(None);
    cache.follow(KEY, 9, announcements);
    assert_eq!(version(cache.followed(KEY, reader(9, 5))), None);
    cache.follow(KEY, 9, announcements + 1);
    assert_eq!(version(cache.followed(KEY, reader(9, 5))), Some(7));
    cache.forget(1);
    assert_eq!(cache.announcements(KEY), None);
}

#[test]
fn the_least_recently_used_fit_that_no_statement_uses_is_evicted() {
    let mut cache = Cache::default();
    for relation in 1..=3 {
        insert(&mut cache, (relation, 0), 7, Validity::Versions(7), reader(5, relation.into()));
    }
    cache.of_versions((1, 0), 7, reader(5, 1));
    let fit = |size| Rc::new(Fitted { version: 7, size });
    // Statement 2 is running.
    cache.insert((4, 0), fit(10), Validity::Versions(7), reader(5, 4), 30, |statement| statement == 2);
    let kept = |cache: &Cache| -> HashSet<u8> { cache.unfollowed().into_iter().collect() };
    assert_eq!(kept(&cache), HashSet::from([1, 2, 4]));
    // One that is larger than the limit is kept all the same, and evicts what it can.
    cache.insert((5, 0), fit(100), Validity::Versions(7), reader(5, 5), 30, |statement| statement == 2);
    assert_eq!(kept(&cache), HashSet::from([2, 5]));
}

/// What happens around a session that classifies.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// Another session begins to change the relation: it holds a lock.
    Begin,
    /// It commits: its change is visible at once, announced, and then the lock is released.
    Commit,
    /// It rolls back: nothing changes; some rollbacks are announced as well.
    RollBack { announced: bool },
    /// A transaction elsewhere in the cluster commits: there is a newer snapshot.
    CommitElsewhere,
    /// PostgreSQL has lost messages.
    Reset,
    /// A statement classifies, with a snapshot of so long ago.
    Classify { age: u32 },
    /// The same statement classifies another row.
    ClassifyAgain,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Begin),
        Just(Event::Commit),
        any::<bool>().prop_map(|announced| Event::RollBack { announced }),
        Just(Event::CommitElsewhere),
        Just(Event::Reset),
        (0u32..4).prop_map(|age| Event::Classify { age }),
        Just(Event::ClassifyAgain),
    ]
}

/// The database as the session sees it: snapshot `s` shows version `history[s]` of the relation.
struct Simulation {
    history: Vec<u32>,
    /// The version that the open writer will commit.
    open: Option<u32>,
    last_version: u32,
    /// Announcements that the session has not received yet.
    pending: u32,
    cache: Cache,
    statement: u32,
    reader: Reader<u32, u32>,
    fits: u32,
}

impl Simulation {
    fn now(&self) -> u32 {
        self.history.len() as u32 - 1
    }

    fn visible(&self, snapshot: u32) -> u32 {
        self.history[snapshot as usize]
    }

    /// What the extension does for every call.
    fn classify(&mut self, reader: Reader<u32, u32>) -> u32 {
        if let Some(fit) = self.cache.used_by(KEY, reader) {
            return fit.version;
        }
        let is_being_changed = self.open.is_some();
        for _ in 0..std::mem::take(&mut self.pending) {
            self.cache.announce(Some(KEY.0));
        }
        if let Some(fit) = (!is_being_changed).then(|| self.cache.followed(KEY, reader)).flatten() {
            return fit.version;
        }
        let versions = self.visible(reader.snapshot);
        let fit = self.cache.of_versions(KEY, versions, reader).unwrap_or_else(|| {
            self.fits += 1;
            let fit = Rc::new(Fitted { version: versions, size: 10 });
            self.cache.insert(KEY, Rc::clone(&fit), Validity::Versions(versions), reader, 100, |_| true);
            fit
        });
        let announcements = self.cache.announcements(KEY).unwrap();
        if self.visible(self.now()) == versions {
            self.cache.follow(KEY, self.now(), announcements);
        }
        fit.version
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Begin => {
                self.last_version += 1;
                self.open = self.open.or(Some(self.last_version));
            }
            Event::Commit => {
                if let Some(version) = self.open.take() {
                    self.history.push(version);
                    self.pending += 1;
                }
            }
            Event::RollBack { announced } => {
                if self.open.take().is_some() {
                    self.pending += u32::from(announced);
                }
            }
            Event::CommitElsewhere => self.history.push(self.visible(self.now())),
            Event::Reset => self.cache.announce(None),
            Event::Classify { age } => {
                self.cache.end_statement(self.statement);
                self.statement += 1;
                self.reader = reader(self.now().saturating_sub(age), self.statement);
                assert_eq!(self.classify(self.reader), self.visible(self.reader.snapshot));
            }
            Event::ClassifyAgain => {
                assert_eq!(self.classify(self.reader), self.visible(self.reader.snapshot));
            }
        }
    }
}

fn simulation() -> Simulation {
    Simulation {
        history: vec![0],
        open: None,
        last_version: 0,
        pending: 0,
        cache: Cache::default(),
        statement: 0,
        reader: reader(0, 0),
        fits: 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    /// A session that keeps fits gives the answers of one that fits anew for every row.
    #[test]
    fn a_kept_fit_answers_as_a_new_one_would(events in prop::collection::vec(event(), 1..60)) {
        let mut simulation = simulation();
        for event in events {
            simulation.apply(event);
        }
    }
}

#[test]
fn commits_elsewhere_cost_no_fit() {
    let mut simulation = simulation();
    for _ in 0..100 {
        simulation.apply(Event::Classify { age: 0 });
        simulation.apply(Event::CommitElsewhere);
    }
    assert_eq!(simulation.fits, 1);
    simulation.apply(Event::Begin);
    simulation.apply(Event::Classify { age: 0 });
    simulation.apply(Event::RollBack { announced: true });
    simulation.apply(Event::Classify { age: 0 });
    assert_eq!(simulation.fits, 1);
    simulation.apply(Event::Begin);
    simulation.apply(Event::Commit);
    simulation.apply(Event::Classify { age: 0 });
    simulation.apply(Event::Classify { age: 0 });
    assert_eq!(simulation.fits, 2);
}
