//! Claims of a column for a model, visible to other transactions before the commit.
//!
//! Two transactions that write the first embeddings of a column do not see each other's rows. So each claims the column
//! for its model until it ends, by a lock of PostgreSQL's lock manager. Claims for the same model are compatible, so a
//! long transaction does not hold up others. A transaction that finds a claim for another model must not continue. The
//! locks are object locks with the OID of the table in place of a catalogue's, so no SQL command conflicts with them.

use std::hash::{DefaultHasher, Hash, Hasher};

use pgrx::pg_sys;

use super::regclass::RegClass;

/// Mode of a claim.
const SHARED: pg_sys::LOCKMODE = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
/// Mode in which one transaction at a time checks for other claims.
const EXCLUSIVE: pg_sys::LOCKMODE = pg_sys::ExclusiveLock as pg_sys::LOCKMODE;

/// A claim of a column for embeddings by one model.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    relation: pg_sys::Oid,
    column: u16,
    /// A hash of the model, never 0.
    model: u32,
}

impl Claim {
    /// `column` is the attribute number, and `model` is whatever identifies the model.
    pub fn new(relation: RegClass, column: i16, model: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        model.hash(&mut hasher);
        Claim { relation: relation.0, column: column.unsigned_abs(), model: hasher.finish() as u32 | 1 }
    }

    /// Claims the column until the end of the transaction or subtransaction. Returns false if another transaction has
    /// claimed it for another model. Of two simultaneous claims, the second one finds the first.
    pub fn take(&self) -> bool {
        let (gate, own) = (self.tag(0), self.tag(self.model));
        // SAFETY: valid tags. The transaction owns the locks, and releases them after an ERROR.
        unsafe {
            pg_sys::LockAcquire(&gate, EXCLUSIVE, false, false);
            pg_sys::LockAcquire(&own, SHARED, false, false);
            let is_contested = self.is_contested();
            pg_sys::LockRelease(&gate, EXCLUSIVE, false);
            !is_contested
        }
    }

    /// Releases the claim of the last [`take`](Self::take).
    pub fn release(&self) {
        // SAFETY: a valid tag, which this transaction has locked.
        unsafe { pg_sys::LockRelease(&self.tag(self.model), SHARED, false) };
    }

    /// Whether the transaction still holds the claim. It does not after a rollback to an earlier savepoint.
    pub fn is_held(&self) -> bool {
        // SAFETY: a valid tag.
        unsafe { is_locked_by_us(&self.tag(self.model)) }
    }

    /// Whether another session, or a prepared transaction, holds a claim for another model.
    fn is_contested(&self) -> bool {
        // SAFETY: copies the lock table into palloc'd memory.
        let locks = unsafe {
            let data = pg_sys::GetLockStatusData();
            let Some(found) = data.as_ref() else { return false };
            std::slice::from_raw_parts(found.locks, usize::try_from(found.nelements).unwrap_or(0))
        };
        // SAFETY: reads a variable of this process.
        let me = unsafe { pg_sys::MyProcPid };
        let column = self.tag(0);
        locks.iter().any(|lock| {
            let tag = &lock.locktag;
            lock.holdMask != 0
                && lock.pid != me
                && tag.locktag_type == column.locktag_type
                && tag.locktag_field1 == column.locktag_field1
                && tag.locktag_field2 == column.locktag_field2
                && tag.locktag_field4 == column.locktag_field4
                && ![0, self.model].contains(&tag.locktag_field3)
        })
    }

    fn tag(&self, model: u32) -> pg_sys::LOCKTAG {
        pg_sys::LOCKTAG {
            // SAFETY: reads a variable of this process.
            locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
            locktag_field2: self.relation.to_u32(),
            locktag_field3: model,
            locktag_field4: self.column,
            locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
            locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
        }
    }
}

/// Whether this process holds the lock.
///
/// # Safety
///
/// The tag must be valid.
#[cfg(any(feature = "pg15", feature = "pg16"))]
unsafe fn is_locked_by_us(tag: &pg_sys::LOCKTAG) -> bool {
    // SAFETY: the caller's promise.
    unsafe { pg_sys::LockHeldByMe(tag, SHARED) }
}

#[cfg(not(any(feature = "pg15", feature = "pg16")))]
unsafe fn is_locked_by_us(tag: &pg_sys::LOCKTAG) -> bool {
    // SAFETY: as above.
    unsafe { pg_sys::LockHeldByMe(tag, SHARED, false) }
}
