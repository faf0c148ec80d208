//! Relations as PostgreSQL's cache has them, without a query.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::error::Result;
use super::regclass::RegClass;
use super::relation_error::RelationError;

/// A relation that is open as long as this lives. Its lock stays until the transaction ends.
#[derive(Debug)]
pub struct Open(pub pg_sys::Relation);

impl Open {
    /// One that is locked already.
    pub fn locked(relation: RegClass) -> Result<Self> {
        Self::with(relation.0, pg_sys::NoLock)
            .ok_or_else(|| RelationError::NoRelation(relation.0.to_u32()).into())
    }

    /// One of the extension's own, locked for reading; `None` if it does not exist.
    pub fn own(name: &CStr) -> Option<Self> {
        // SAFETY: looks names up, of a schema that need not exist.
        let oid = unsafe {
            let schema = pg_sys::get_namespace_oid(c"susx".as_ptr(), true);
            pg_sys::get_relname_relid(name.as_ptr(), schema)
        };
        Self::with(oid, pg_sys::AccessShareLock)
    }

    fn with(oid: pg_sys::Oid, lock: u32) -> Option<Self> {
        // SAFETY: NULL where there is no such relation.
        let relation = unsafe { pg_sys::try_relation_open(oid, lock as pg_sys::LOCKMODE) };
        (!relation.is_null()).then_some(Open(relation))
    }

    /// The role that it belongs to.
    pub fn owner(&self) -> pg_sys::Oid {
        // SAFETY: it is open.
        unsafe { (*(*self.0).rd_rel).relowner }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // After an ERROR PostgreSQL itself closes it.
        if !std::thread::panicking() {
            // SAFETY: it is open.
            unsafe { pg_sys::relation_close(self.0, pg_sys::NoLock as pg_sys::LOCKMODE) };
        }
    }
}
