//! Jobs: long calls of which only one works on a column of a table at a time.
//!
//! A procedure commits many times, so a lock of a transaction would not last. These are locks of the session, as VACUUM
//! holds them: PostgreSQL releases them when the call fails or the session ends. They are object locks with the OID of
//! the table in place of a catalogue's, so no SQL command conflicts with them.
//!
//! A call that has to wait checks repeatedly, in short transactions. While PostgreSQL waits for a lock, the session
//! would keep its snapshot, and VACUUM could remove nothing for as long as the other call takes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use pgrx::pg_sys;

use super::error::Result;
use super::message::note;
use super::procedure::Procedure;
use super::regclass::RegClass;
use super::wait;

/// How often a waiting call checks whether the other one has ended.
const INTERVAL: Duration = Duration::from_millis(100);

/// Modes of the locks: a job that can run at the same time as others of its kind, and one that runs alone.
const TOGETHER: pg_sys::LOCKMODE = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
const ALONE: pg_sys::LOCKMODE = pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE;

/// What a job does.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    Embedding,
    Labelling,
    Generating,
}

impl Work {
    /// Distinguishes these locks from each other and from those of [`Claim`](super::claim::Claim), which have the number
    /// of a column here: that is at most 1,600.
    fn number(self) -> u16 {
        match self {
            Work::Embedding => 0x7001,
            Work::Labelling => 0x7002,
            Work::Generating => 0x7003,
        }
    }

    /// For the NOTICE of a call that waits.
    fn verb(self) -> &'static str {
        match self {
            Work::Embedding => "embedding",
            Work::Labelling => "labelling",
            Work::Generating => "generating images for",
        }
    }
}

/// The locks of a job, not taken yet.
#[derive(Debug)]
pub struct Job {
    work: Work,
    /// The table's name, for messages.
    name: String,
    locks: Vec<Lock>,
}

impl Job {
    /// A job on a column of a table. Jobs on different partitions run at the same time, but none at the same time as a
    /// job on the whole table: `parents` are the tables that this one is a part of.
    pub fn new(work: Work, relation: RegClass, column: &str, parents: &[RegClass]) -> Result<Self> {
        let mut locks = vec![Lock::new(work, relation, column, ALONE)];
        locks.extend(parents.iter().map(|&parent| Lock::new(work, parent, column, TOGETHER)));
        Ok(Job { work, name: relation.name()?, locks })
    }

    /// The same job on a part of the rows, at the same time as others on other parts.
    pub fn of_a_part(mut self) -> Self {
        self.locks.iter_mut().for_each(|lock| lock.mode = TOGETHER);
        self
    }

    /// Waits until no other session has such a job, outside of any transaction of `procedure`.
    pub fn begin(self, procedure: &Procedure) -> Result<RunningJob> {
        let mut has_waited = false;
        loop {
            if let Some(job) = self.try_begin() {
                return Ok(job);
            }
            if !has_waited {
                has_waited = true;
                let verb = self.work.verb();
                note(format!("another session is {verb} \"{}\": waiting until it has ended", self.name));
            }
            wait::for_time(INTERVAL);
            // Ends the transaction, so that transaction_timeout counts from here.
            procedure.transaction(|| Ok(()))?;
        }
    }

    fn try_begin(&self) -> Option<RunningJob> {
        let mut held = RunningJob(Vec::with_capacity(self.locks.len()));
        for lock in &self.locks {
            // Dropping the others releases them: no session waits for a lock while it holds one.
            held.0.push(lock.try_take()?);
        }
        Some(held)
    }
}

/// A job that has begun; it ends when this is dropped.
#[derive(Debug)]
#[must_use]
pub struct RunningJob(#[allow(dead_code)] Vec<HeldLock>);

#[derive(Clone, Copy, Debug)]
struct Lock {
    relation: pg_sys::Oid,
    column: u32,
    work: u16,
    mode: pg_sys::LOCKMODE,
}

impl Lock {
    fn new(work: Work, relation: RegClass, column: &str, mode: pg_sys::LOCKMODE) -> Self {
        let mut hasher = DefaultHasher::new();
        column.hash(&mut hasher);
        Lock { relation: relation.0, column: hasher.finish() as u32, work: work.number(), mode }
    }

    fn tag(&self) -> pg_sys::LOCKTAG {
        pg_sys::LOCKTAG {
            // SAFETY: reads a variable of this process.
            locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
            locktag_field2: self.relation.to_u32(),
            locktag_field3: self.column,
            locktag_field4: self.work,
            locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
            locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
        }
    }

    /// Takes the lock for the session; `None` if another session holds it.
    fn try_take(&self) -> Option<HeldLock> {
        // SAFETY: a valid tag. The lock does not wait. The session owns it, and an aborted transaction releases it.
        let found = unsafe { pg_sys::LockAcquire(&self.tag(), self.mode, true, true) };
        // Made only where the lock was taken, because dropping it releases the lock.
        (found != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL).then(|| HeldLock(*self))
    }
}

/// A lock of the session.
#[derive(Debug)]
struct HeldLock(Lock);

impl Drop for HeldLock {
    fn drop(&mut self) {
        // While Rust unwinds, an ERROR is under way, and PostgreSQL releases all locks of the session.
        if !std::thread::panicking() {
            // SAFETY: a valid tag, which this session has locked.
            unsafe { pg_sys::LockRelease(&self.0.tag(), self.0.mode, true) };
        }
    }
}
