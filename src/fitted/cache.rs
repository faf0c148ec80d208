//! The fits that a session keeps, and which statement may use which.

use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys;

use super::Fitted;
use crate::pg::regclass::RegClass;
use crate::pg::snapshot::SnapshotId;
use crate::pg::statement::{self, StatementId};
use crate::pg::versions::Versions;

/// Whose rights a fit was read with is part of its key.
pub type Key = (RegClass, pg_sys::Oid);

/// A statement, and the state of the database that it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    pub snapshot: SnapshotId,
    /// `None` where it cannot be told from others.
    pub statement: Option<StatementId>,
    /// The statement that it is a part of, which may be itself.
    pub within: Option<StatementId>,
}

impl Reader {
    /// Of the running call; `None` outside of a statement.
    pub fn running() -> Option<Self> {
        let snapshot = SnapshotId::active()?;
        Some(Reader { snapshot, statement: statement::current(), within: statement::innermost() })
    }
}

/// What a fit was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// These versions of the rows: it is good for whoever sees them.
    Versions(Versions),
    /// Something that only the statement that has read it may rely on.
    OneStatement,
}

#[derive(Debug)]
struct Entry {
    fitted: Rc<Fitted>,
    source: Source,
    /// The state since which every change is still to be announced; `None` where some may have been missed.
    current_since: Option<SnapshotId>,
    /// Who has used it last.
    reader: Reader,
    last_use: u64,
    /// How many changes have been announced.
    changes: u64,
}

#[derive(Debug, Default)]
pub struct Cache {
    entries: HashMap<Key, Entry>,
    clock: u64,
}

impl Cache {
    /// Takes note that a relation, or any of them, has changed.
    pub fn announce(&mut self, changed: Option<RegClass>) {
        for ((relation, _), entry) in &mut self.entries {
            if changed.is_none_or(|changed| changed == *relation) {
                entry.current_since = None;
                entry.changes += 1;
            }
        }
    }

    /// Drops what a statement has read for itself alone.
    pub fn end_statement(&mut self, statement: StatementId) {
        let is_over =
            |entry: &Entry| entry.source == Source::OneStatement && entry.reader.statement == Some(statement);
        self.entries.retain(|_, entry| !is_over(entry));
    }

    /// What this very statement has used before: the path of every row of a statement but the first.
    pub fn used_by(&self, key: &Key, reader: Reader) -> Option<Rc<Fitted>> {
        reader.statement?;
        let entry = self.entries.get(key).filter(|entry| entry.reader == reader)?;
        Some(Rc::clone(&entry.fitted))
    }

    /// What is known to be what the reader sees, because no change of it was announced and nobody is just
    /// making one.
    pub fn current(&mut self, key: &Key, reader: Reader) -> Option<Rc<Fitted>> {
        let entry = self.entries.get(key)?;
        let is_current = entry.current_since.is_some_and(|since| !reader.snapshot.is_older_than(since));
        if is_current { self.take(key, reader) } else { None }
    }

    /// What was read from these versions of the rows.
    pub fn of_versions(&mut self, key: &Key, versions: Versions, reader: Reader) -> Option<Rc<Fitted>> {
        let is_same = self.entries.get(key)?.source == Source::Versions(versions);
        if is_same { self.take(key, reader) } else { None }
    }

    fn take(&mut self, key: &Key, reader: Reader) -> Option<Rc<Fitted>> {
        self.clock += 1;
        let entry = self.entries.get_mut(key)?;
        entry.reader = reader;
        entry.last_use = self.clock;
        Some(Rc::clone(&entry.fitted))
    }

    /// The relations of which nobody knows whether they are still what they were.
    pub fn unsure(&self) -> Vec<RegClass> {
        let unsure = self.entries.iter().filter(|(_, entry)| entry.current_since.is_none());
        unsure.map(|((relation, _), _)| *relation).collect()
    }

    /// Drops what was fitted of a relation.
    pub fn forget(&mut self, relation: RegClass) {
        self.entries.retain(|(fitted, _), _| *fitted != relation);
    }

    /// Keeps a fit in the place of an older one, and drops others that there is no more room for, those first
    /// that were used least recently. What a statement uses stays as long as that runs.
    pub fn insert(&mut self, key: Key, fitted: Rc<Fitted>, source: Source, reader: Reader, limit: u64) {
        self.clock += 1;
        let last_use = self.clock;
        let entry = Entry { fitted, source, current_since: None, reader, last_use, changes: 0 };
        self.entries.insert(key, entry);
        while self.size() > limit {
            let unused = self.entries.iter().filter(|(other, entry)| **other != key && !entry.is_in_use());
            let Some((&oldest, _)) = unused.min_by_key(|(_, entry)| entry.last_use) else { break };
            self.entries.remove(&oldest);
        }
    }

    /// How many changes of an entry were announced so far.
    pub fn changes(&self, key: &Key) -> Option<u64> {
        Some(self.entries.get(key)?.changes)
    }

    /// From now on its changes are announced, if none was since there were so many of them.
    pub fn set_current(&mut self, key: &Key, since: SnapshotId, changes: u64) {
        if let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.changes == changes) {
            entry.current_since = Some(since);
        }
    }

    /// In bytes.
    fn size(&self) -> u64 {
        self.entries.values().map(|entry| entry.fitted.classifier.size() as u64).sum()
    }
}

impl Entry {
    /// Whether a statement that has not ended has used it.
    fn is_in_use(&self) -> bool {
        self.reader.within.is_some_and(statement::is_running)
    }
}
