//! WARNINGs about texts that are longer than a model's context, so that it reads only their beginning.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt::Display;

use susx_server::protocol::Cut;

use crate::pg::{message, statement};

/// The number of texts that a WARNING names, and of WARNINGs about single texts in one statement of the client.
const MOST: usize = 10;
/// Bytes of a text that a WARNING shows.
const SHOWN: usize = 80;

const HINT: &str =
    "A token is a short word or a part of one. Put what matters first, or write a shorter text.";

thread_local! {
    /// The texts that WARNINGs were sent about, and the client's statement that they are part of.
    static WARNED: RefCell<(i64, HashSet<String>)> = RefCell::default();
}

/// Sends one WARNING about all texts that were cut. `name` names the text of an index.
pub fn warn(cuts: &[Option<Cut>], name: impl Fn(usize) -> String) {
    let mut cut = cuts.iter().enumerate().filter_map(|(index, cut)| Some((index, (*cut)?)));
    let Some((first, Cut { tokens, .. })) = cut.next() else { return };
    let others: Vec<usize> = cut.map(|(index, _)| index).collect();
    let (are, rest) = if others.is_empty() { ("is", "its rest was") } else { ("are", "their rest was") };
    let named = others.len().min(MOST - 1);
    let mut names = vec![name(first)];
    names.extend(others[..named].iter().map(|&index| name(index)));
    let more = match others.len() - named {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let names = names.join(", ");
    message::warn_of_truncation(
        format!("{names}{more} {are} longer than the {tokens} tokens that the model reads: {rest} ignored"),
        HINT,
    );
}

/// Sends a WARNING about a text, unless this statement of the client has had one about it or enough about others: it may
/// embed a million texts one by one.
pub fn warn_once(cut: Option<Cut>, name: impl FnOnce() -> String) {
    let Some(cut) = cut else { return };
    let name = name();
    let is_new = WARNED.with_borrow_mut(|(statement, names)| {
        let current = statement::started();
        if *statement != current {
            *statement = current;
            names.clear();
        }
        names.len() < MOST && names.insert(name.clone())
    });
    if is_new {
        warn(&[Some(cut)], |_| name.clone());
    }
}

/// A text as a WARNING names it: by its beginning.
pub fn quoted(what: impl Display, text: &str) -> String {
    let kept = text.floor_char_boundary(SHOWN);
    let dots = if kept < text.len() { "…" } else { "" };
    format!("{what} \"{}{dots}\"", &text[..kept])
}
