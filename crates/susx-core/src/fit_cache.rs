//! The fits that a session keeps, and when a kept fit may answer a statement.
//!
//! Fitting a classifier takes long, so a session keeps the result. A kept fit may answer a statement only if a fit of
//! the rows that this statement sees would be the same. An entry is in one of three states ([`Validity`]):
//!
//! ```text
//!                insert                           insert
//!        ┌───────────────────┐            ┌───────────────────┐
//!        ▼                   │            │                   ▼
//!   OneStatement ──────▶  (no entry)  ────┘               Versions ◀─────────────┐
//!        end_statement       ▲                                │                  │
//!                            │ evicted, forgotten      follow │                  │ announce
//!                            │ (any state)                    ▼                  │
//!                            └──────────────────────────  Followed ──────────────┘
//! ```
//!
//! * `OneStatement`: the rows depend on more than a snapshot, as with row-level security. Only the statement that read
//!   them may use the fit.
//! * `Versions`: the fit was read from these versions of the rows, and answers every statement that sees the same
//!   versions. Finding out costs a look at the header of every row.
//! * `Followed`: as `Versions`; in addition, every change after the snapshot `since` is announced to this session. As
//!   long as none has been, the fit answers every statement whose snapshot is not older, at no cost.
//!
//! In every state, the statement that used an entry last uses it again without asking.
//!
//! This module knows nothing of PostgreSQL: the extension supplies snapshots, versions and announcements.

use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

/// A state of the database.
pub trait Snapshot: Copy + PartialEq {
    /// Whether this snapshot was taken before `other`.
    fn is_older_than(self, other: Self) -> bool;
}

/// What the cache keeps.
pub trait Fit {
    /// Bytes in memory. May grow while the fit is used.
    fn size(&self) -> u64;
}

/// A statement, and the state of the database that it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader<S, I> {
    /// The state that the statement sees.
    pub snapshot: S,
    /// Identifies the statement; `None` where it cannot be told from others.
    pub statement: Option<I>,
    /// The innermost running statement, which may be the same.
    pub within: Option<I>,
}

/// Who may use a fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity<S, V> {
    /// The statement that read it.
    OneStatement,
    /// Every statement that sees these versions of the rows.
    Versions(V),
    /// The same, and until a change is announced, every statement whose snapshot is not older than `since`.
    Followed {
        /// The versions of the rows that the fit was read from.
        versions: V,
        /// Every change after this snapshot is announced.
        since: S,
    },
}

#[derive(Debug)]
struct Entry<S, I, V, F> {
    fit: Rc<F>,
    validity: Validity<S, V>,
    /// The reader that used it last.
    reader: Reader<S, I>,
    /// Value of the cache's clock at its last use.
    last_use: u64,
    /// Changes announced since it was inserted.
    announcements: u64,
}

/// Kept fits by relation and user (whose rights the rows were read with).
///
/// `R` identifies a relation, `U` a user, `S` a snapshot, `I` a statement, `V` the versions of a relation's rows.
#[derive(Debug)]
pub struct FitCache<R, U, S, I, V, F> {
    entries: HashMap<(R, U), Entry<S, I, V, F>>,
    clock: u64,
}

impl<R, U, S, I, V, F> Default for FitCache<R, U, S, I, V, F> {
    fn default() -> Self {
        FitCache { entries: HashMap::new(), clock: 0 }
    }
}

impl<R, U, S, I, V, F> FitCache<R, U, S, I, V, F>
where
    R: Copy + Eq + Hash,
    U: Copy + Eq + Hash,
    S: Snapshot,
    I: Copy + Eq,
    V: Copy + Eq,
    F: Fit,
{
    /// Records that a relation has changed; `None` means that any may have.
    pub fn announce(&mut self, changed: Option<R>) {
        for (&(relation, _), entry) in &mut self.entries {
            if changed.is_none_or(|changed| changed == relation) {
                entry.announcements += 1;
                if let Validity::Followed { versions, .. } = entry.validity {
                    entry.validity = Validity::Versions(versions);
                }
            }
        }
    }

    /// Drops what a statement has read for itself alone.
    pub fn end_statement(&mut self, statement: I) {
        self.entries.retain(|_, entry| {
            entry.validity != Validity::OneStatement || entry.reader.statement != Some(statement)
        });
    }

    /// The fit that this very statement used before.
    pub fn used_by(&self, key: (R, U), reader: Reader<S, I>) -> Option<Rc<F>> {
        reader.statement?;
        let entry = self.entries.get(&key).filter(|entry| entry.reader == reader)?;
        Some(Rc::clone(&entry.fit))
    }

    /// The followed fit, if the reader's snapshot is not older than the first one that it was followed from. The caller
    /// must know that no session is changing the relation, and have delivered all announcements.
    pub fn followed(&mut self, key: (R, U), reader: Reader<S, I>) -> Option<Rc<F>> {
        match self.entries.get(&key)?.validity {
            Validity::Followed { since, .. } if !reader.snapshot.is_older_than(since) => {
                self.touch(key, reader)
            }
            _ => None,
        }
    }

    /// The fit of these versions of the rows.
    pub fn of_versions(&mut self, key: (R, U), found: V, reader: Reader<S, I>) -> Option<Rc<F>> {
        match self.entries.get(&key)?.validity {
            Validity::Versions(versions) | Validity::Followed { versions, .. } if versions == found => {
                self.touch(key, reader)
            }
            _ => None,
        }
    }

    fn touch(&mut self, key: (R, U), reader: Reader<S, I>) -> Option<Rc<F>> {
        self.clock += 1;
        let entry = self.entries.get_mut(&key)?;
        entry.reader = reader;
        entry.last_use = self.clock;
        Some(Rc::clone(&entry.fit))
    }

    /// Stores a fit, and replaces an older one with the same key. While the cache is larger than `limit` bytes, evicts
    /// the least recently used entries, but none that a running statement has used.
    pub fn insert(
        &mut self,
        key: (R, U),
        fit: Rc<F>,
        validity: Validity<S, V>,
        reader: Reader<S, I>,
        limit: u64,
        is_running: impl Fn(I) -> bool,
    ) {
        self.clock += 1;
        let entry = Entry { fit, validity, reader, last_use: self.clock, announcements: 0 };
        self.entries.insert(key, entry);
        while self.size() > limit {
            let is_in_use = |entry: &Entry<S, I, V, F>| entry.reader.within.is_some_and(&is_running);
            let unused = self.entries.iter().filter(|&(&other, entry)| other != key && !is_in_use(entry));
            let Some((&oldest, _)) = unused.min_by_key(|(_, entry)| entry.last_use) else { break };
            self.entries.remove(&oldest);
        }
    }

    /// How many changes of an entry's relation have been announced since it was inserted.
    pub fn announcements(&self, key: (R, U)) -> Option<u64> {
        Some(self.entries.get(&key)?.announcements)
    }

    /// Follows an entry from the snapshot `since`, which must show the entry's versions. Does nothing if a change has
    /// been announced since [`announcements`](Self::announcements) returned `announcements`.
    pub fn follow(&mut self, key: (R, U), since: S, announcements: u64) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        match entry.validity {
            Validity::Versions(versions) | Validity::Followed { versions, .. }
                if entry.announcements == announcements =>
            {
                entry.validity = Validity::Followed { versions, since };
            }
            _ => {}
        }
    }

    /// The relations whose entries are not followed, and which may therefore be gone.
    pub fn unfollowed(&self) -> Vec<R> {
        let is_followed = |entry: &Entry<S, I, V, F>| matches!(entry.validity, Validity::Followed { .. });
        self.entries
            .iter()
            .filter(|(_, entry)| !is_followed(entry))
            .map(|(&(relation, _), _)| relation)
            .collect()
    }

    /// Drops the fits of a relation.
    pub fn forget(&mut self, relation: R) {
        self.entries.retain(|&(kept, _), _| kept != relation);
    }

    /// Bytes of all entries.
    fn size(&self) -> u64 {
        self.entries.values().map(|entry| entry.fit.size()).sum()
    }
}

#[cfg(test)]
mod tests;
