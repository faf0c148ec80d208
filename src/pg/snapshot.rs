//! Which state of the database a statement sees.

use pgrx::pg_sys;

/// Two snapshots of one session that compare equal see the same rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotId {
    xmin: pg_sys::TransactionId,
    xmax: pg_sys::TransactionId,
    in_progress: (u32, i32),
    command: pg_sys::CommandId,
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

    /// Whether nothing has committed since this snapshot: what was read with it is the present state.
    /// In a parallel query nobody can tell, so the answer is no.
    pub fn is_latest(self) -> bool {
        // SAFETY: GetLatestSnapshot returns a static snapshot that is valid until its next call.
        let latest = unsafe {
            if pg_sys::IsInParallelMode() {
                return false;
            }
            Self::of(pg_sys::GetLatestSnapshot())
        };
        latest.is_some_and(|latest| latest.xmax == self.xmax && latest.in_progress == self.in_progress)
    }

    /// Whether this snapshot was taken before `other`, as an imported one may be, or a cursor's.
    ///
    /// Command ids are those of one transaction. An older transaction with the same other numbers has
    /// then a higher one at most, and its snapshot passes for newer: which costs a fit, no more.
    pub fn is_older_than(self, other: SnapshotId) -> bool {
        if self.xmax != other.xmax {
            // SAFETY: a comparison of two numbers, modulo 2^32.
            return unsafe { pg_sys::TransactionIdPrecedes(self.xmax, other.xmax) };
        }
        self.in_progress.0 > other.in_progress.0
            || self.in_progress == other.in_progress && self.command < other.command
    }

    unsafe fn of(snapshot: pg_sys::Snapshot) -> Option<Self> {
        // SAFETY: the caller passes NULL or a valid snapshot.
        let snapshot = unsafe { snapshot.as_ref()? };
        Some(SnapshotId {
            xmin: snapshot.xmin,
            xmax: snapshot.xmax,
            in_progress: (snapshot.xcnt, snapshot.subxcnt),
            command: snapshot.curcid,
        })
    }
}
