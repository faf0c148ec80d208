//! Which state of the database a statement sees.

use pgrx::pg_sys;

use super::error::Result;

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

/// Lets queries see what has been committed by now, where the running statement's snapshot may be older.
pub fn with_latest<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: in a transaction; the snapshot is copied, and popped below, or by an ERROR.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
    let result = call();
    // SAFETY: the one that was pushed above.
    unsafe { pg_sys::PopActiveSnapshot() };
    result
}
