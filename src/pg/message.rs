//! The text of every message, as clients and the log get it.
//!
//! Names, keys and texts in it are other people's. A control character in one could rewrite what a terminal shows of
//! the log, and a name of a megabyte would fill it. So all messages pass through [`shown`].

use pgrx::{notice, warning};

/// Bytes of a message; what is longer is cut.
const LONGEST: usize = 8 << 10;

/// The text with control characters written as escapes, and of a reasonable length.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(LONGEST));
    for (place, c) in text.char_indices() {
        if shown.len() >= LONGEST {
            return format!("{shown}… ({} more bytes)", text.len() - place);
        }
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if c.is_control() || turns_text(c) => shown.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown
}

/// Whether a character that is not seen itself changes the order of others, or begins a line.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Says something that the caller should know.
pub fn note(text: impl AsRef<str>) {
    notice!("{}", shown(text.as_ref()));
}

/// Says something that is likely not as the caller wants it.
pub fn warn(text: impl AsRef<str>) {
    warning!("{}", shown(text.as_ref()));
}
