//! Messages between sessions that something has changed.
//!
//! A classifier's table and its row of settings have triggers that invalidate the table's relcache
//! entry. PostgreSQL brings that to every session when the change commits, and to the session itself
//! at once, also when it is rolled back.

use pgrx::prelude::*;

use crate::fitted;

use super::catalog;
use super::regclass::RegClass;

const TYPES: std::ffi::c_int = pg_sys::SysCacheIdentifier::TYPEOID as std::ffi::c_int;

/// Asks PostgreSQL for the messages. Once per process.
pub fn register() {
    // SAFETY: the callback is a function of this library, which is never unloaded.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(on_invalidation), pg_sys::Datum::null());
        pg_sys::CacheRegisterSyscacheCallback(TYPES, Some(on_new_types), pg_sys::Datum::null());
    }
}

/// Tells every session, this one included, that the classifier has changed.
pub fn invalidate(classifier: RegClass) {
    // SAFETY: takes any OID of a relation that exists; looked up first, since it is an error otherwise.
    unsafe {
        if !pg_sys::get_rel_name(classifier.0).is_null() {
            pg_sys::CacheInvalidateRelcacheByRelid(classifier.0);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_invalidation(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
    match relation {
        // Messages were lost: anything may have changed.
        pg_sys::Oid::INVALID => fitted::forget_all(),
        relation => fitted::forget(RegClass(relation)),
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_new_types(
    _arg: pg_sys::Datum,
    _cache: std::ffi::c_int,
    _hash: pg_sys::uint32,
) {
    catalog::forget_types();
}
