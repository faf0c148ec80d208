//! The text of every message, as clients and the log get it.
//!
//! Names, keys and texts in it are other people's. A control character in one could rewrite what a terminal shows of
//! the log, and a name of a megabyte would fill it. So all messages pass through [`shown`].

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{function_name, notice, warning};
use susx_server::log_lines;

use super::error::Error;

/// Bytes of a message; what is longer is cut.
const LONGEST: usize = 8 << 10;

/// The text with control characters written as escapes, and of a reasonable length.
pub fn shown(text: &str) -> String {
    let kept = text.floor_char_boundary(LONGEST);
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

/// Says something that the caller should know.
pub fn note(text: impl AsRef<str>) {
    notice!("{}", shown(text.as_ref()));
}

/// Says something that is likely not as the caller wants it.
pub fn warn(text: impl AsRef<str>) {
    warning!("{}", shown(text.as_ref()));
}
