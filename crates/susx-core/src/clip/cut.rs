//! Finds how much of a text must be tokenized to know the tokens that a model sees.
//!
//! A model sees a limited number of tokens. If a tokenizer works from left to right, the beginning of a text gives the
//! first of its tokens, so the rest need not be read. Where a text can be cut depends on the tokenizer. This module
//! recognises a class of tokenizers for which it is certain.
//!
//! Let a text be `a b`, where `a` ends in a letter or a digit and `b` begins with a space. The tokens of `a` are
//! the first tokens of `a b` if each step of the tokenizer leaves the two apart:
//!
//! * No added token spans the border: none has a space that is not at its beginning.
//! * The normalizer turns `a b` into what it turns `a` into, followed by a space. This holds if each of its parts looks
//!   at one character at a time, at a character with its combining marks, or at one run of spaces; if none removes
//!   spaces between words; and if none removes the letter. Parts may change the beginning or end of a text: both texts
//!   begin alike, and the border is not an end of `a b`.
//! * The pre-tokenizer ends a piece at the border, because it splits at spaces and none of its rules looks beyond them.
//!
//! The tokenizer's model sees one piece at a time, so nothing needs to be known about it. How much of a text is enough is
//! found by trying: if the beginning has more tokens than the context length, the whole text has the same tokens there.

use serde_json::Value;
use tokenizers::{NormalizedString, Normalizer, Tokenizer};

/// Pre-tokenizer expressions that are known to end a piece at a space after a letter and to look no further.
const EXPRESSIONS: [&str; 4] = [
    r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
];
/// Expressions that match one run of spaces.
const SPACES: [&str; 5] = [r"\s+", r"\s", " +", " {2,}", r"\s{2,}"];
/// The character that SentencePiece writes for a space.
const MARK: char = '▁';
/// Only letters below this may end a beginning: Latin, Greek and Cyrillic ones. This excludes scripts with combining
/// letters.
const LAST_LETTER: usize = 0x0530;

/// The places where the texts of a tokenizer can be cut.
#[derive(Clone, Debug)]
pub(super) struct Cuts {
    /// For each code point, whether a text can be cut between that character and a space.
    letters: Vec<bool>,
}

impl Cuts {
    /// `None` for a tokenizer that is not known to allow cuts.
    pub fn of(tokenizer: &Tokenizer) -> Option<Cuts> {
        let normalizer = tokenizer.get_normalizer();
        let parts = serde_json::to_value(normalizer).ok()?;
        if !is_local(&parts) {
            return None;
        }
        let normalized = |text: &str| {
            let mut text = NormalizedString::from(text);
            normalizer.map_or(Ok(()), |normalizer| normalizer.normalize(&mut text)).ok()?;
            Some(text.get().to_owned())
        };
        let added = tokenizer.get_added_tokens_decoder();
        let is_apart = |content: &str| !content.trim_start_matches(is_space).contains(is_space);
        if !added.values().all(|token| {
            is_apart(&token.content) && normalized(&token.content).is_some_and(|content| is_apart(&content))
        }) {
            return None;
        }
        let separator = if writes_marks(&parts) { MARK } else { separator(&normalized)? };
        let pre_tokenizer = serde_json::to_value(tokenizer.get_pre_tokenizer()).ok()?;
        if !separates(&pre_tokenizer, separator)? {
            return None;
        }
        let letters = (0..LAST_LETTER)
            .map(|code| {
                char::from_u32(code as u32).is_some_and(|c| is_plain_letter(c) && keeps(&normalized, c))
            })
            .collect();
        Some(Cuts { letters })
    }

    /// The longest beginning of at most `most` bytes, else the shortest longer one; `None` if that is the whole text.
    pub fn beginning<'a>(&self, text: &'a str, most: usize) -> Option<&'a str> {
        let bytes = text.as_bytes();
        let is_border = |at: &usize| {
            bytes[*at] == b' '
                && text[..*at].chars().next_back().is_some_and(|c| self.is_letter(c))
                // A combining mark would combine with the space.
                && text[*at + 1..].chars().next().is_none_or(|c| c.is_ascii() || self.is_letter(c))
        };
        let middle = most.saturating_add(1).min(bytes.len());
        // A space is one byte, so `at` is a character boundary.
        let before = (1..middle).rev().find(is_border);
        before.or_else(|| (middle.max(1)..bytes.len()).find(is_border)).map(|at| &text[..at])
    }

    fn is_letter(&self, c: char) -> bool {
        self.letters.get(c as usize).copied().unwrap_or(false)
    }
}

fn is_space(c: char) -> bool {
    c.is_whitespace() || c == MARK
}

/// A letter or digit that is not a combining mark.
fn is_plain_letter(c: char) -> bool {
    // U+0300 to U+036F and U+0483 to U+0489 are combining marks, some of which are alphanumeric for Unicode.
    c.is_alphanumeric() && !matches!(c, '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}')
}

/// Whether the normalizer has a part that replaces spaces, perhaps only some of them, by SentencePiece's mark.
fn writes_marks(normalizer: &Value) -> bool {
    let inner = normalizer["normalizers"].as_array();
    inner.is_some_and(|parts| parts.iter().any(writes_marks))
        || normalizer["content"].as_str().is_some_and(|content| content.contains(MARK))
}

/// The character that the normalizer turns a space between two words into; `None` if that does not separate words.
fn separator(normalized: &dyn Fn(&str) -> Option<String>) -> Option<char> {
    let (word, words) = (normalized("x")?, normalized("x x")?);
    words.strip_prefix(word.as_str())?.chars().next().filter(|&c| c == ' ' || c == MARK)
}

/// Whether the normalizer keeps this letter before a space, and the space after it.
fn keeps(normalized: &dyn Fn(&str) -> Option<String>, c: char) -> bool {
    let keeps = || {
        let (without, word) = (normalized("x")?, normalized(&format!("x{c}"))?);
        let words = normalized(&format!("x{c} {c}x"))?;
        let mut rest = words.strip_prefix(word.as_str())?.chars();
        let is_kept = word.len() > without.len() && !word.ends_with(is_space);
        Some(is_kept && matches!(rest.next(), Some(' ' | MARK)) && rest.next().is_some_and(|c| !is_space(c)))
    };
    keeps().unwrap_or(false)
}

/// Whether a normalizer meets the condition above, except for what it does to letters.
fn is_local(normalizer: &Value) -> bool {
    match normalizer["type"].as_str() {
        None => normalizer.is_null(),
        Some("Sequence") => {
            normalizer["normalizers"].as_array().is_some_and(|parts| parts.iter().all(is_local))
        }
        Some("Replace") => {
            let content = normalizer["content"].as_str().unwrap_or_default();
            let by_space = !content.is_empty() && content.chars().all(|c| c == ' ' || c == MARK);
            let pattern = &normalizer["pattern"];
            match (pattern["String"].as_str(), pattern["Regex"].as_str()) {
                (Some(""), _) => false,
                (Some(text), _) if text.chars().all(is_space) => by_space,
                (Some(text), _) => !text.contains(|c: char| is_space(c) || c.is_alphanumeric()),
                (_, Some(expression)) if SPACES.contains(&expression) => by_space,
                (_, Some(expression)) => is_one_class(expression),
                _ => false,
            }
        }
        Some(kind) => matches!(
            kind,
            "BertNormalizer"
                | "Lowercase"
                | "NFC"
                | "NFD"
                | "NFKC"
                | "NFKD"
                | "Nmt"
                | "Precompiled"
                | "Prepend"
                | "Strip"
                | "StripAccents"
        ),
    }
}

/// Whether an expression is one `[...]`, which matches one character. [`keeps`] tests which characters it changes.
fn is_one_class(expression: &str) -> bool {
    let Some(inner) = expression.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else {
        return false;
    };
    // Nested and negated classes are not analysed.
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        match c {
            '[' | ']' | '^' => return false,
            '\\' if !characters.next().is_some_and(|escaped| escaped.is_ascii_punctuation()) => return false,
            _ => {}
        }
    }
    !inner.is_empty() && !inner.contains("&&")
}

/// Whether a pre-tokenizer ends a piece where `separator` follows a letter; `None` if it may look beyond the border.
fn separates(pre_tokenizer: &Value, separator: char) -> Option<bool> {
    let is_blank = separator == ' ';
    match pre_tokenizer["type"].as_str()? {
        "Sequence" => {
            let parts = pre_tokenizer["pretokenizers"].as_array()?;
            let mut any = false;
            for part in parts {
                // Once separated, later parts see only one side of the border at a time.
                any = any || separates(part, separator)?;
            }
            Some(any)
        }
        "BertPreTokenizer" | "Whitespace" | "WhitespaceSplit" => Some(is_blank),
        // Replaces spaces by other characters.
        "ByteLevel" => (is_blank && pre_tokenizer["use_regex"].as_bool()?).then_some(true),
        "Metaspace" => {
            let is_mark = pre_tokenizer["replacement"].as_str()? == MARK.to_string();
            (is_mark && pre_tokenizer["split"].as_bool()?).then_some(true)
        }
        // Look at one character at a time, and do not treat a space as a digit or punctuation.
        "Digits" | "Punctuation" => Some(false),
        "Split" => {
            let expression = pre_tokenizer["pattern"]["Regex"].as_str()?;
            let is_known = match (pre_tokenizer["behavior"].as_str()?, pre_tokenizer["invert"].as_bool()?) {
                ("Removed", true) | ("Isolated", _) => EXPRESSIONS.contains(&expression),
                _ => false,
            };
            (is_known && is_blank).then_some(true)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
