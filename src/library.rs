//! The library itself.

use pgrx::prelude::*;

use crate::pg::version::LIBRARY;

/// The version of the library that this session has loaded. Also where the database has another version of
/// the extension: upgrade scripts ask it.
#[pg_extern(stable, parallel_safe)]
fn library_version() -> &'static str {
    LIBRARY
}
