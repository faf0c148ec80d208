//! Makes the text of messages safe for clients and the log.
//!
//! Messages contain names, keys and texts from users. A control character could change what a terminal shows of the
//! log, and a very long name could fill the log. So all messages pass through [`shown`].

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, function_name, notice, warning};
use susx_server::log_lines;

use super::error::Error;

/// Maximum length of a message, in bytes. Longer ones are truncated.
const MAX_BYTES: usize = 8 << 10;

/// The text with control characters escaped, truncated to a reasonable length.
pub fn shown(text: &str) -> String {
    let kept = text.floor_char_boundary(MAX_BYTES);
    let mut shown = log_lines::escape(&text[..kept]);
    if kept < text.len() {
        shown.push_str(&format!("… ({} more bytes)", text.len() - kept));
    }
    shown
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> Self {
        let report = ErrorReport::new(error.sqlstate(), shown(&error.to_string()), function_name!());
        match error.hint() {
            Some(hint) => report.set_hint(shown(hint)),
            None => report,
        }
    }
}

/// Sends a NOTICE.
pub fn note(text: impl AsRef<str>) {
    notice!("{}", shown(text.as_ref()));
}

/// Sends a NOTICE with a HINT.
pub fn note_with_hint(text: impl AsRef<str>, hint: impl AsRef<str>) {
    let sqlstate = PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION;
    let report = ErrorReport::new(sqlstate, shown(text.as_ref()), function_name!());
    report.set_hint(shown(hint.as_ref())).report(PgLogLevel::NOTICE);
}

/// Sends a WARNING with a HINT.
pub fn warn_with_hint(text: impl AsRef<str>, hint: impl AsRef<str>) {
    let report = ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, shown(text.as_ref()), function_name!());
    report.set_hint(shown(hint.as_ref())).report(PgLogLevel::WARNING);
}

/// Sends a WARNING with a HINT about a text of which only the beginning was used.
pub fn warn_of_truncation(text: impl AsRef<str>, hint: impl AsRef<str>) {
    let sqlstate = PgSqlErrorCode::ERRCODE_WARNING_STRING_DATA_RIGHT_TRUNCATION;
    let report = ErrorReport::new(sqlstate, shown(text.as_ref()), function_name!());
    report.set_hint(shown(hint.as_ref())).report(PgLogLevel::WARNING);
}

/// Sends a WARNING.
pub fn warn(text: impl AsRef<str>) {
    warning!("{}", shown(text.as_ref()));
}
