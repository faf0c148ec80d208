//! What is written down at the very end of a transaction.
//!
//! Written earlier, it would make others who write the same wait until the transaction ends, however long that takes.

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;

use super::catalog::provenance;

/// Asks PostgreSQL to be told. Once per process.
pub fn register() {
    // SAFETY: the callback is a function of this library, which is never unloaded.
    unsafe { pg_sys::RegisterXactCallback(Some(on_event), std::ptr::null_mut()) };
}

#[pg_guard]
unsafe extern "C-unwind" fn on_event(event: pg_sys::XactEvent::Type, _arg: *mut std::ffi::c_void) {
    use pg_sys::XactEvent::*;
    match event {
        XACT_EVENT_PRE_COMMIT | XACT_EVENT_PRE_PREPARE => {
            // The transaction is rolled back if it cannot be written.
            provenance::write_pending().map_err(ErrorReport::from).unwrap_or_report();
        }
        XACT_EVENT_COMMIT | XACT_EVENT_PREPARE | XACT_EVENT_ABORT => provenance::forget_pending(),
        _ => {}
    }
}
