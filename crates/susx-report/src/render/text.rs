//! Texts and numbers as they are shown.

use std::fmt::Write;

use maud::{Markup, html};

use crate::subject::shortened;

/// A name or a key chosen by another user: cut, isolated from the direction of the text around it, and with its control
/// characters visible.
pub(super) fn name(text: &str) -> Markup {
    html! { bdi { (plain(text)) } }
}

/// The same as [`name`] for attributes, which have no elements.
pub(super) fn plain(text: &str) -> String {
    visible(&shortened(text))
}

/// A text with `\u{..}` in place of control characters, and of those that turn the direction of what follows them.
pub(super) fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for character in text.chars() {
        let turns = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || turns {
            // Writing to a string never fails.
            let _ = write!(visible, "{}", character.escape_unicode());
        } else {
            visible.push(character);
        }
    }
    visible
}

/// A key.
pub(super) fn key(key: Option<&str>) -> Markup {
    match key {
        Some(text) => name(text),
        None => html! { span.muted { "NULL" } },
    }
}

/// A share as a percentage with one decimal.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}\u{a0}%", share * 100.0)
}

/// The same for a share that may not be defined.
pub(super) fn percent_or_dash(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), percent)
}

/// A number with its thousands apart.
pub(super) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut apart = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart
}

/// A number and its noun, such as `1 image` or `1,200 images`.
pub(super) fn counted(n: u64, noun: &str) -> String {
    match (n, noun) {
        (1, noun) => format!("1 {noun}"),
        (_, "category") => format!("{} categories", number(n)),
        _ => format!("{} {noun}s", number(n)),
    }
}

/// A document with references in place of all characters but those of ASCII. Styles and scripts, in which there are no
/// references, must be ASCII already.
pub(super) fn ascii(html: &str) -> String {
    let mut ascii = String::with_capacity(html.len());
    for character in html.chars() {
        match character.is_ascii() {
            true => ascii.push(character),
            // Writing to a String does not fail.
            false => drop(write!(ascii, "&#x{:x};", u32::from(character))),
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_ascii() {
        assert!(crate::render::STYLE.is_ascii());
        assert_eq!(ascii("<b>Käse 図 \u{1f9c0}</b>"), "<b>K&#xe4;se &#x56f3; &#x1f9c0;</b>");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(percent(0.93149), "93.1\u{a0}%");
        assert_eq!(percent_or_dash(None), "–");
        assert_eq!(counted(1, "image"), "1 image");
        assert_eq!(counted(1_200, "image"), "1,200 images");
        assert_eq!(counted(2, "category"), "2 categories");
    }

    #[test]
    fn names_are_escaped() {
        let escaped = name("<script>\"'&]]>\u{202e}gnp\u{1b}").into_string();
        assert_eq!(escaped, "<bdi>&lt;script&gt;&quot;'&amp;]]&gt;\\u{202e}gnp\\u{1b}</bdi>");
    }
}
