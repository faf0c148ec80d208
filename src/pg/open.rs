//! Open relations, from PostgreSQL's relation cache.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::error::Result;
use super::regclass::RegClass;
use super::relation_error::RelationError;

/// An open relation, closed when this is dropped. Its lock is held until the end of the transaction.
#[derive(Debug)]
pub struct OpenRelation(pub pg_sys::Relation);

impl OpenRelation {
    /// Opens a relation that is already locked.
    pub fn locked(relation: RegClass) -> Result<Self> {
        Self::with(relation.0, pg_sys::NoLock)
            .ok_or_else(|| RelationError::NoRelation(relation.0.to_u32()).into())
    }

    /// Opens a relation of the schema `susx` and locks it for reading; `None` if it does not exist.
    pub fn own(name: &CStr) -> Option<Self> {
        // SAFETY: look-ups by name, which accept a schema that does not exist.
        let oid = unsafe {
            let schema = pg_sys::get_namespace_oid(c"susx".as_ptr(), true);
            pg_sys::get_relname_relid(name.as_ptr(), schema)
        };
        Self::with(oid, pg_sys::AccessShareLock)
    }

    fn with(oid: pg_sys::Oid, lock: u32) -> Option<Self> {
        // SAFETY: returns NULL if there is no such relation.
        let relation = unsafe { pg_sys::try_relation_open(oid, lock as pg_sys::LOCKMODE) };
        // Lazily: one that is dropped is closed.
        (!relation.is_null()).then(|| OpenRelation(relation))
    }

    /// Which relation it is.
    pub fn relation(&self) -> RegClass {
        // SAFETY: the relation is open.
        RegClass(unsafe { (*self.0).rd_id })
    }

    /// The role that owns the relation.
    pub fn owner(&self) -> pg_sys::Oid {
        // SAFETY: the relation is open.
        unsafe { (*(*self.0).rd_rel).relowner }
    }
}

impl Drop for OpenRelation {
    fn drop(&mut self) {
        // After an ERROR, PostgreSQL closes it.
        if !std::thread::panicking() {
            // SAFETY: the relation is open.
            unsafe { pg_sys::relation_close(self.0, pg_sys::NoLock as pg_sys::LOCKMODE) };
        }
    }
}
