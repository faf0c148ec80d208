//! Messages between sessions that something has changed.
//!
//! A classifier's table and its row of settings have triggers that invalidate the table's relcache
//! entry. PostgreSQL brings that to every session when the change commits, and to the session itself
//! at once, also when it is rolled back. Until then whoever changes either has the table locked.

use std::sync::OnceLock;

use pgrx::prelude::*;

use super::extensions;
use super::regclass::RegClass;
use super::version;

const TYPES: std::ffi::c_int = pg_sys::SysCacheIdentifier::TYPEOID as std::ffi::c_int;
const FUNCTIONS: std::ffi::c_int = pg_sys::SysCacheIdentifier::PROCOID as std::ffi::c_int;

/// What is called when a relation has changed.
static ON_CHANGE: OnceLock<fn(Option<RegClass>)> = OnceLock::new();

/// Has `call` called with every relation that changes; with `None` if any may have changed. Once per process.
pub fn on_change(call: fn(Option<RegClass>)) {
    let _ = ON_CHANGE.set(call);
}

/// Asks PostgreSQL for the messages. Once per process.
pub fn register() {
    // SAFETY: the callback is a function of this library, which is never unloaded.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(on_invalidation), pg_sys::Datum::null());
        pg_sys::CacheRegisterSyscacheCallback(TYPES, Some(on_new_types), pg_sys::Datum::null());
        pg_sys::CacheRegisterSyscacheCallback(FUNCTIONS, Some(on_new_functions), pg_sys::Datum::null());
    }
}

/// Tells every session, this one included, that the classifier has changed.
pub fn invalidate(classifier: RegClass) {
    if classifier.exists() {
        // SAFETY: the relation exists; it would be an error otherwise.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(classifier.0) };
    }
}

/// Processes the announcements of other sessions.
pub fn accept_announcements() {
    // SAFETY: may be called at any time outside of a callback.
    unsafe { pg_sys::AcceptInvalidationMessages() };
}

/// Whether another session is changing the classifier. Its change becomes visible a moment before it
/// is announced, and its locks go after that: only when nobody holds one, all that a snapshot shows has
/// been announced. (A standby has no such locks, and that moment.)
pub fn is_being_changed(classifier: RegClass) -> bool {
    // SAFETY: reads a flag of PostgreSQL's.
    let is_standby = unsafe { pg_sys::RecoveryInProgress() };
    !is_standby && is_locked_for_writing(classifier.0)
}

/// Tries a lock that only writers are in the way of. It is given back at once; nobody waits for it.
fn is_locked_for_writing(table: pg_sys::Oid) -> bool {
    let share = pg_sys::ShareLock as pg_sys::LOCKMODE;
    // SAFETY: any OID may be locked; what was locked is unlocked.
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
        // PostgreSQL has lost messages.
        pg_sys::Oid::INVALID => on_change(None),
        relation => on_change(Some(RegClass(relation))),
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_new_types(
    _arg: pg_sys::Datum,
    _cache: std::ffi::c_int,
    _hash: pg_sys::uint32,
) {
    extensions::forget_types();
}

#[pg_guard]
unsafe extern "C-unwind" fn on_new_functions(
    _arg: pg_sys::Datum,
    _cache: std::ffi::c_int,
    _hash: pg_sys::uint32,
) {
    version::forget();
}
