//! What susx reads and writes in the database: the only SQL in this library, except for the look-ups of
//! [`extensions`](super::extensions).
//!
//! Everything runs as the caller, with the caller's rights. Names are qualified, and so are operators
//! ([`operators`](super::spi::operators)), so that nothing depends on the caller's search_path.

mod as_owner;
pub mod citus;
pub mod classifier;
pub mod column;
pub mod errors;
pub mod generated;
pub mod image_table;
pub mod input;
mod key;
pub mod keyed_query;
pub mod keyed_table;
pub mod keyed_vectors;
pub mod label_table;
pub mod labelled_query;
pub mod own_functions;
pub mod pool;
pub mod provenance;
pub mod report_query;
mod session_settings;
pub mod sheet_query;
mod syscache;
pub mod transition_rows;
pub mod vector_column;
mod vector_hint;
pub mod vector_index;

use std::ffi::CStr;

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use super::error::{Error, Result};

/// How PostgreSQL's errors name the command, where [`prevent_in_read_only`] or [`write()`] refuses it.
const CHANGE: &CStr = c"a function that changes a classifier";

/// An error in a read-only transaction, before any work is wasted.
pub fn prevent_in_read_only() {
    prevent_command_in_read_only(CHANGE);
}

/// Like [`prevent_in_read_only`], with the name of the command for the error.
pub fn prevent_command_in_read_only(command: &CStr) {
    // SAFETY: both raise an ERROR with the C string in it, or do nothing.
    unsafe {
        pg_sys::PreventCommandDuringRecovery(command.as_ptr());
        pg_sys::PreventCommandIfReadOnly(command.as_ptr());
    }
}

/// Runs a statement that writes. Returns the number of rows that it inserted, updated or deleted.
fn write(sql: &str, args: &[DatumWithOid]) -> Result<usize> {
    // pgrx asks for a transaction id first, which a standby refuses with an internal error.
    // SAFETY: raises an ERROR with the C string in it, or does nothing.
    unsafe { pg_sys::PreventCommandDuringRecovery(CHANGE.as_ptr()) };
    Spi::connect_mut(|client| client.update(sql, None, args).map(|table| table.len())).map_err(Error::from)
}
