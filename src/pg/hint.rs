//! HINTs for errors that PostgreSQL raises while it works for susx.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::{CaughtError, ErrorReport, ErrorReportable};
use pgrx::prelude::*;
use pgrx::{PgTryBuilder, function_name};

use super::message::shown;

/// Runs `call`. If PostgreSQL raises an error in it for which there is a hint, the error gets this HINT, after one that it may
/// have.
pub fn with_hint<T>(hint: impl Fn(PgSqlErrorCode) -> Option<String>, call: impl FnOnce() -> T) -> T {
    let explain = AssertUnwindSafe(|error: CaughtError| -> T {
        let raised = match &error {
            CaughtError::PostgresError(raised) => raised,
            _ => error.rethrow(),
        };
        let Some(hint) = hint(raised.sql_error_code()) else { error.rethrow() };
        let own = raised.hint().map_or(String::new(), |own| format!("{own} "));
        let report = ErrorReport::new(raised.sql_error_code(), shown(raised.message()), function_name!());
        let report = match raised.detail() {
            Some(detail) => report.set_detail(shown(detail)),
            None => report,
        };
        Err(report.set_hint(shown(&format!("{own}{hint}")))).unwrap_or_report()
    });
    PgTryBuilder::new(AssertUnwindSafe(call)).catch_others(move |error| (*explain)(error)).execute()
}
