//! Text of others that is shown to people: in messages, and with them in PostgreSQL's log.

use std::borrow::Cow;

use pgrx::{notice, warning};

/// The text with its control characters escaped, and what else changes how a terminal shows the rest.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| match is_unprintable(c) {
        true => c.escape_default().collect(),
        false => c.to_string(),
    };
    Cow::Owned(text.chars().map(escape).collect())
}

/// Control characters, separators of lines, and marks that turn the direction of writing.
fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A WARNING with names or texts in it.
pub fn warn(message: &str) {
    warning!("{}", printable(message));
}

/// A NOTICE with names or texts in it.
pub fn note(message: &str) {
    notice!("{}", printable(message));
}
