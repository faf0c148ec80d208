//! Which model a transaction embeds a column with, told to others before it commits.
//!
//! Two transactions that give a column its first embeddings see nothing of each other. So each claims the column for
//! its model by a lock of PostgreSQL's, as long as it lasts: claims for one model are compatible, so that no long
//! transaction holds others up, and whoever finds a claim for another one must not go on. No SQL takes such locks: they
//! are PostgreSQL's for objects of catalogues, of a catalogue that there is not, the table of images.

use std::hash::{DefaultHasher, Hash, Hasher};

use pgrx::pg_sys;

use super::regclass::RegClass;

/// Held by everybody.
const SHARED: pg_sys::LOCKMODE = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
/// Held by one at a time, and only while it looks for others.
const EXCLUSIVE: pg_sys::LOCKMODE = pg_sys::ExclusiveLock as pg_sys::LOCKMODE;

/// A column that embeddings of one model are to be written to.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    relation: pg_sys::Oid,
    column: u16,
    /// Never 0.
    model: u32,
}

impl Claim {
    /// The number of the column is the relation's own; the model is known by these bytes.
    pub fn new(relation: RegClass, column: i16, model: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        model.hash(&mut hasher);
        Claim { relation: relation.0, column: column.unsigned_abs(), model: hasher.finish() as u32 | 1 }
    }

    /// Claims the column until the transaction, or its subtransaction, ends; false if somebody else has claimed it for
    /// another model. Of two who come at once the second one finds the first.
    pub fn take(&self) -> bool {
        let (gate, own) = (self.tag(0), self.tag(self.model));
        // SAFETY: valid tags; the locks' owner is the transaction, which gives back what an ERROR leaves.
        unsafe {
            pg_sys::LockAcquire(&gate, EXCLUSIVE, false, false);
            pg_sys::LockAcquire(&own, SHARED, false, false);
            let is_contested = self.is_contested();
            pg_sys::LockRelease(&gate, EXCLUSIVE, false);
            !is_contested
        }
    }

    /// Takes back what the last [`take`](Self::take) did.
    pub fn give_back(&self) {
        // SAFETY: a valid tag, which this transaction has locked.
        unsafe { pg_sys::LockRelease(&self.tag(self.model), SHARED, false) };
    }

    /// Whether the transaction still holds the claim, and was not rolled back to a savepoint before it.
    pub fn is_held(&self) -> bool {
        // SAFETY: a valid tag.
        unsafe { is_locked_by_us(&self.tag(self.model)) }
    }

    /// Whether another session, or a prepared transaction, holds a claim for another model.
    fn is_contested(&self) -> bool {
        // SAFETY: copies the table of locks into memory of PostgreSQL's.
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

/// Looks into this process's own table of locks.
///
/// # Safety
///
/// The tag is valid.
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
