//! Which state of the database a statement sees.

use pgrx::pg_sys;

use super::error::Result;
use super::regclass::RegClass;
use super::versions::Versions;

/// Two snapshots of one session that compare equal see the same rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotId {
    xmin: pg_sys::TransactionId,
    xmax: pg_sys::TransactionId,
    in_progress: InProgress,
    command: pg_sys::CommandId,
}

/// How many transactions and subtransactions were in progress, below xmax. These only become fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct InProgress {
    transactions: u32,
    subtransactions: i32,
}

impl SnapshotId {
    /// The snapshot of the running statement.
    pub fn active() -> Option<Self> {
        // SAFETY: reads the top of the snapshot stack, which the caller's statement keeps there.
        unsafe {
            if !pg_sys::ActiveSnapshotSet() {
                return None;
            }
            Self::of(pg_sys::GetActiveSnapshot())
        }
    }

    /// Whether this snapshot was taken before `other`, as an imported one may be, or a cursor's.
    ///
    /// Command ids are those of one transaction. An older transaction with the same other numbers has
    /// then a higher one at most, and its snapshot passes for newer: which costs a look at the rows, no more.
    pub fn is_older_than(self, other: SnapshotId) -> bool {
        if self.xmax != other.xmax {
            // SAFETY: a comparison of two numbers, modulo 2^32.
            return unsafe { pg_sys::TransactionIdPrecedes(self.xmax, other.xmax) };
        }
        self.in_progress > other.in_progress
            || self.in_progress == other.in_progress && self.command < other.command
    }

    unsafe fn of(snapshot: pg_sys::Snapshot) -> Option<Self> {
        // SAFETY: the caller passes NULL or a valid snapshot.
        let snapshot = unsafe { snapshot.as_ref()? };
        Some(SnapshotId {
            xmin: snapshot.xmin,
            xmax: snapshot.xmax,
            in_progress: InProgress { transactions: snapshot.xcnt, subtransactions: snapshot.subxcnt },
            command: snapshot.curcid,
        })
    }
}

/// The present state, if it shows the same of a classifier as the running statement's snapshot, which shows
/// these versions. In a parallel query nobody can tell, so the answer is no.
pub fn latest_that_shows(classifier: RegClass, versions: Versions) -> Result<Option<SnapshotId>> {
    // SAFETY: GetLatestSnapshot returns a static snapshot that is valid until its next call; what is registered
    // is a copy, which PostgreSQL itself gives back after an ERROR.
    unsafe {
        if pg_sys::IsInParallelMode() {
            return Ok(None);
        }
        let latest = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let id = SnapshotId::of(latest);
        let is_same = match (id, SnapshotId::active()) {
            (Some(latest), Some(active)) if latest.shows_as_much_as(active) => Ok(true),
            _ => Versions::shown(classifier, latest).map(|shown| shown == versions),
        };
        pg_sys::UnregisterSnapshot(latest);
        Ok(id.filter(|_| is_same.as_ref().is_ok_and(|&is_same| is_same)))
    }
}

impl SnapshotId {
    /// Whether nothing has committed between the two.
    fn shows_as_much_as(self, active: SnapshotId) -> bool {
        (self.xmax, self.in_progress, self.command) == (active.xmax, active.in_progress, active.command)
    }
}
