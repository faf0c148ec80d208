//! Writes the records of embedding models at the end of a transaction.
//!
//! If they were written earlier, other transactions that write the same records would have to wait for the end of this
//! one, however long that takes.

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;

use super::catalog::provenance;

/// Registers the callback. Called once per process.
pub fn register() {
    // SAFETY: the callback is a function of this library, which is never unloaded.
    unsafe { pg_sys::RegisterXactCallback(Some(on_event), std::ptr::null_mut()) };
}

#[pg_guard]
unsafe extern "C-unwind" fn on_event(event: pg_sys::XactEvent::Type, _arg: *mut std::ffi::c_void) {
    use pg_sys::XactEvent::*;
    match event {
        XACT_EVENT_PRE_COMMIT | XACT_EVENT_PRE_PREPARE => {
            // An error rolls the transaction back.
            provenance::write_pending().map_err(ErrorReport::from).unwrap_or_report();
        }
        XACT_EVENT_COMMIT | XACT_EVENT_PREPARE | XACT_EVENT_ABORT => provenance::forget_pending(),
        _ => {}
    }
}
