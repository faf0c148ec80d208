//! Checks that the extension in the database and this library have the same version.
//!
//! The library may be replaced before `ALTER EXTENSION susx UPDATE` is run. And when another session runs that command,
//! a session continues with the library that it has loaded. Functions would then be called with arguments that do not
//! match, and find tables with unexpected columns. So the first argument of every SQL function is a [`SameVersion`].

use std::cell::Cell;

use pgrx::PgSqlErrorCode;
use pgrx::callconv::{Arg, ArgAbi};
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};

use super::encoding;
use super::error::{Result, SqlError};
use super::extensions::installed_version;

/// The version of this library.
pub const LIBRARY: &str = env!("CARGO_PKG_VERSION");

/// The extension in the database and the library have different versions.
#[derive(Debug, thiserror::Error)]
#[error("susx is version {schema} in this database, but the library in use is version {library}")]
struct SchemaVersion {
    schema: String,
    library: &'static str,
}

impl SqlError for SchemaVersion {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
    }

    fn hint(&self) -> Option<String> {
        let SchemaVersion { schema, library } = self;
        Some(if is_before(schema, library) {
            "Update the database: ALTER EXTENSION susx UPDATE.".to_owned()
        } else {
            format!(
                "If version {schema} is installed on this machine, begin a new session; restart PostgreSQL where \
                 susx is in shared_preload_libraries. Else install it."
            )
        })
    }
}

thread_local! {
    /// Whether the last check found the same versions.
    static IS_SAME: Cell<bool> = const { Cell::new(false) };
}

/// Has the next call check the version again. Called when a function changes, because upgrade scripts replace
/// functions.
pub fn recheck() {
    IS_SAME.set(false);
}

/// An error unless the database has the library's version of the extension.
pub fn check() -> Result<()> {
    if IS_SAME.get() {
        return Ok(());
    }
    match installed_version()? {
        Some(schema) if schema != LIBRARY => Err(SchemaVersion { schema, library: LIBRARY }.into()),
        // Without an extension, a superuser has declared the function by hand.
        _ => {
            IS_SAME.set(true);
            Ok(())
        }
    }
}

/// Whether version `one` precedes version `other`, compared number by number.
fn is_before(one: &str, other: &str) -> bool {
    let numbers = |version: &str| -> Vec<u64> {
        version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
    };
    numbers(one) < numbers(other)
}

/// An argument that does not exist in SQL. It raises an error if the versions differ, and if the texts of the call are not
/// UTF-8. It must be the first argument, so that the checks come before reading the SQL arguments.
#[derive(Clone, Copy, Debug)]
pub struct SameVersion;

// SAFETY: reads the arguments as the types that the function declares.
unsafe impl<'fcx> ArgAbi<'fcx> for SameVersion {
    unsafe fn unbox_arg_unchecked(call: Arg<'_, 'fcx>) -> Self {
        check().and_then(|()| encoding::check_database()).map_err(ErrorReport::from).unwrap_or_report();
        // SAFETY: passes on the caller's promise.
        unsafe { encoding::check_arguments(call) }.map_err(ErrorReport::from).unwrap_or_report();
        SameVersion
    }

    fn is_virtual_arg() -> bool {
        true
    }
}

// SAFETY: it does not appear in SQL.
unsafe impl SqlTranslatable for SameVersion {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(SameVersion);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::Skip);
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> = Ok(ReturnsRef::One(SqlMappingRef::Skip));
}
