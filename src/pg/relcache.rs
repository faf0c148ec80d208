//! Invalidation messages: how sessions learn of changes to classifiers.
//!
//! Triggers on a classifier's table and on its row of settings invalidate the table's entry in the relation cache.
//! PostgreSQL delivers the invalidation to all sessions on commit, and to the changing session at once and again on
//! rollback. Until then the changing session holds a lock on the table.

use std::sync::OnceLock;

use pgrx::prelude::*;

use super::extensions;
use super::regclass::RegClass;
use super::version;

const TYPES: std::ffi::c_int = pg_sys::SysCacheIdentifier::TYPEOID as std::ffi::c_int;
const FUNCTIONS: std::ffi::c_int = pg_sys::SysCacheIdentifier::PROCOID as std::ffi::c_int;

/// Called when a relation has changed.
static ON_CHANGE: OnceLock<fn(Option<RegClass>)> = OnceLock::new();

/// Has `call` called with every relation that changes, or with `None` if any may have changed. Called once per process.
pub fn on_change(call: fn(Option<RegClass>)) {
    let _ = ON_CHANGE.set(call);
}

/// Registers the callbacks. Called once per process.
pub fn register() {
    // SAFETY: the callback is a function of this library, which is never unloaded.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(on_invalidation), pg_sys::Datum::null());
        pg_sys::CacheRegisterSyscacheCallback(TYPES, Some(on_type_change), pg_sys::Datum::null());
        pg_sys::CacheRegisterSyscacheCallback(FUNCTIONS, Some(on_function_change), pg_sys::Datum::null());
    }
}

/// Tells all sessions, including this one, that the classifier has changed.
pub fn invalidate(classifier: RegClass) {
    if classifier.exists() {
        // SAFETY: the relation exists; otherwise this would raise an ERROR.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(classifier.0) };
    }
}

/// Processes the announced changes of other sessions.
pub fn accept_announcements() {
    // SAFETY: may be called at any time except in a callback.
    unsafe { pg_sys::AcceptInvalidationMessages() };
}

/// Whether another session is changing the classifier.
///
/// At a commit, the change becomes visible first, is announced next, and then the locks are released. So if no session
/// holds a lock, every visible change has been announced. A standby has no such locks, so there a change may be visible
/// for a moment before it is announced.
pub fn is_being_changed(classifier: RegClass) -> bool {
    // SAFETY: reads a flag of PostgreSQL.
    let is_standby = unsafe { pg_sys::RecoveryInProgress() };
    !is_standby && is_locked_for_writing(classifier.0)
}

/// Tries, without waiting, to take a lock that conflicts only with those of writers, and releases it at once.
fn is_locked_for_writing(table: pg_sys::Oid) -> bool {
    let share = pg_sys::ShareLock as pg_sys::LOCKMODE;
    // SAFETY: any OID may be locked. A lock that was taken is released.
    unsafe {
        let is_free = pg_sys::ConditionalLockRelationOid(table, share);
        if is_free {
            pg_sys::UnlockRelationOid(table, share);
        }
        !is_free
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_invalidation(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
    let Some(on_change) = ON_CHANGE.get() else { return };
    match relation {
        // Messages were lost, so every relation may have changed.
        pg_sys::Oid::INVALID => on_change(None),
        relation => on_change(Some(RegClass(relation))),
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_type_change(
    _arg: pg_sys::Datum,
    _cache: std::ffi::c_int,
    _hash: pg_sys::uint32,
) {
    extensions::forget_types();
}

#[pg_guard]
unsafe extern "C-unwind" fn on_function_change(
    _arg: pg_sys::Datum,
    _cache: std::ffi::c_int,
    _hash: pg_sys::uint32,
) {
    version::recheck();
}
