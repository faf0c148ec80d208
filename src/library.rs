//! `susx.library_version()`.

use pgrx::prelude::*;

use crate::pg::version::LIBRARY;

/// The version of the library that this session has loaded. Unlike other functions it also works if the database has
/// another version of the extension, because upgrade scripts call it.
#[pg_extern(stable, parallel_safe)]
fn library_version() -> &'static str {
    LIBRARY
}
