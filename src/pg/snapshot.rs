//! Snapshots: which state of the database a statement sees.

use pgrx::pg_sys;

use super::error::Result;

/// Identifies a snapshot. Equal ones of one session show the same rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotId {
    xmin: pg_sys::TransactionId,
    xmax: pg_sys::TransactionId,
    in_progress: InProgress,
    command: pg_sys::CommandId,
}

/// Numbers of transactions and subtransactions below xmax that were in progress. For a given xmax they only decrease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct InProgress {
    transactions: u32,
    subtransactions: i32,
}

impl SnapshotId {
    /// The active snapshot; `None` outside of a statement.
    pub fn active() -> Option<Self> {
        // SAFETY: reads the top of the snapshot stack, which stays there during the call.
        unsafe {
            if !pg_sys::ActiveSnapshotSet() {
                return None;
            }
            Self::of(pg_sys::GetActiveSnapshot())
        }
    }

    /// Whether this snapshot was taken before `other`. That of a cursor, or an imported one, may be.
    ///
    /// Command ids are comparable only within a transaction. A snapshot of an older transaction with otherwise equal
    /// numbers may be taken for newer, which only costs reading the row versions.
    pub fn is_older_than(self, other: SnapshotId) -> bool {
        if self.xmax != other.xmax {
            // SAFETY: compares two numbers modulo 2^32.
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

/// Runs `call` with the latest snapshot, which shows everything committed so far. That of the running statement may be
/// older.
pub fn with_latest<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: in a transaction. The snapshot is copied, and popped below or after an ERROR.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
    let result = call();
    // SAFETY: pops the snapshot that was pushed above.
    unsafe { pg_sys::PopActiveSnapshot() };
    result
}
