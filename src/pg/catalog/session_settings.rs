//! Settings of the session that a query of susx runs with.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::pg::error::Result;

/// A setting and its value.
pub(super) type Setting = (&'static CStr, &'static CStr);

/// Values are written as text without loss, and the same text is read as the same value in every session.
pub(super) const EXACT_TEXT: [Setting; 6] = [
    (c"DateStyle", c"ISO"),
    (c"IntervalStyle", c"iso_8601"),
    (c"TimeZone", c"UTC"),
    (c"extra_float_digits", c"1"),
    (c"bytea_output", c"hex"),
    EXACT_MONEY,
];

/// The one setting of [`EXACT_TEXT`] that decides how text is read.
pub(super) const EXACT_MONEY: Setting = (c"lc_monetary", c"C");

/// A query reads in the order of its key's index, regardless of the planner's estimates. While few rows are left
/// without an embedding, the planner would read and sort the whole table for every batch.
pub(super) const BY_INDEX: [Setting; 4] = [
    (c"enable_seqscan", c"off"),
    (c"enable_bitmapscan", c"off"),
    (c"enable_sort", c"off"),
    // The high cost of plans that are switched off would start the JIT compiler.
    (c"jit", c"off"),
];

/// Runs `call` with other values of some settings, and restores the caller's.
pub(super) fn with_settings<T>(settings: &[(&CStr, &CStr)], call: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: the strings are C strings. The level is closed below; after an ERROR the transaction's
    // abort does it.
    let level = unsafe {
        let level = pg_sys::NewGUCNestLevel();
        for (name, value) in settings {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
        level
    };
    let result = call();
    // SAFETY: closes the level opened above, as an abort would: a commit would keep the changed values.
    unsafe { pg_sys::AtEOXact_GUC(false, level) };
    result
}
