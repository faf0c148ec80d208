//! CuPL files: sentences that a language model wrote about each category (Pratt et al., arXiv 2209.03320), in the
//! published format `{"category": ["sentence", ...], ...}`.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};

use serde_json::Value;

use crate::interrupt;

/// An error in a CuPL file. Elements are numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CuplError {
    /// The file is not JSON.
    #[error("the prompts cannot be read: {0}")]
    Unreadable(String),
    /// The file is not an object.
    #[error("the prompts must be an object with one key per category, not {0}")]
    NotAnObject(&'static str),
    /// The object is empty.
    #[error("the prompts contain no category")]
    NoCategory,
    /// The value of a category is not an array.
    #[error("category \"{category}\": expected an array of sentences, not {found}")]
    NotAnArray {
        /// The category.
        category: String,
        /// The type of its value.
        found: &'static str,
    },
    /// The array of a category is empty.
    #[error("category \"{0}\" has no sentence")]
    NoSentence(String),
    /// An element is not a string.
    #[error("category \"{category}\", element {ord}: expected a string, not {found}")]
    NotAString {
        /// The category.
        category: String,
        /// Number of the element.
        ord: usize,
        /// Its type.
        found: &'static str,
    },
    /// An element is blank.
    #[error("category \"{category}\", element {ord}: the sentence is empty")]
    Empty {
        /// The category.
        category: String,
        /// Number of the element.
        ord: usize,
    },
}

/// Bytes parsed between two checks for an interrupt.
const PART: usize = 1 << 15;

/// A reader that checks for interrupts.
struct Interruptible<'a>(&'a [u8]);

impl Read for Interruptible<'_> {
    fn read(&mut self, part: &mut [u8]) -> std::io::Result<usize> {
        interrupt::check();
        self.0.read(part)
    }
}

/// Parses a file: the sentences of each category, at least one each, in their order in the file.
pub fn parse_cupl(json: &str) -> Result<BTreeMap<String, Vec<String>>, CuplError> {
    let reader = BufReader::with_capacity(PART, Interruptible(json.as_bytes()));
    let file = serde_json::from_reader(reader).map_err(|error| CuplError::Unreadable(error.to_string()))?;
    let Value::Object(categories) = file else { return Err(CuplError::NotAnObject(kind(&file))) };
    if categories.is_empty() {
        return Err(CuplError::NoCategory);
    }
    categories
        .into_iter()
        .map(|(category, value)| {
            interrupt::check();
            let Value::Array(elements) = value else {
                return Err(CuplError::NotAnArray { found: kind(&value), category });
            };
            if elements.is_empty() {
                return Err(CuplError::NoSentence(category));
            }
            let sentences: Result<_, _> =
                (1..).zip(elements).map(|(ord, element)| sentence(&category, ord, element)).collect();
            Ok((category, sentences?))
        })
        .collect()
}

fn sentence(category: &str, ord: usize, element: Value) -> Result<String, CuplError> {
    match element {
        Value::String(sentence) if !sentence.trim().is_empty() => Ok(sentence),
        Value::String(_) => Err(CuplError::Empty { category: category.to_owned(), ord }),
        other => Err(CuplError::NotAString { category: category.to_owned(), ord, found: kind(&other) }),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_stay_as_they_are() {
        let json = r#"{"dog": ["A dog barks. ", "It's a \"dog\".\n", "A dog barks. "], "a {}": ["{}"]}"#;
        let expected = BTreeMap::from([
            (
                "dog".to_owned(),
                vec!["A dog barks. ".into(), "It's a \"dog\".\n".into(), "A dog barks. ".into()],
            ),
            ("a {}".to_owned(), vec!["{}".to_owned()]),
        ]);
        assert_eq!(parse_cupl(json), Ok(expected));
    }

    #[test]
    fn what_is_no_file_of_sentences() {
        let message = |json: &str| parse_cupl(json).map_err(|error| error.to_string());
        for (json, expected) in [
            (r#"["a dog"]"#, "the prompts must be an object with one key per category, not an array"),
            ("null", "the prompts must be an object with one key per category, not null"),
            ("{}", "the prompts contain no category"),
            (r#"{"dog": "a dog"}"#, "category \"dog\": expected an array of sentences, not a string"),
            (r#"{"dog": {"1": "a dog"}}"#, "category \"dog\": expected an array of sentences, not an object"),
            (r#"{"cat": ["a cat"], "dog": []}"#, "category \"dog\" has no sentence"),
            (r#"{"dog": ["a dog", 7]}"#, "category \"dog\", element 2: expected a string, not a number"),
            (r#"{"dog": [["a dog"]]}"#, "category \"dog\", element 1: expected a string, not an array"),
            (r#"{"dog": ["a dog", true]}"#, "category \"dog\", element 2: expected a string, not a boolean"),
            (r#"{"dog": ["a dog", "b", " \n"]}"#, "category \"dog\", element 3: the sentence is empty"),
        ] {
            assert_eq!(message(json), Err(expected.to_owned()));
        }
        // The parser itself rejects a number outside the range of floats, and excessive nesting.
        let deep = format!(r#"{{"dog": {}{}}}"#, "[".repeat(500), "]".repeat(500));
        for json in [r#"{"dog": [1e999]}"#, &deep, "{"] {
            assert!(matches!(parse_cupl(json), Err(CuplError::Unreadable(_))), "{json}");
        }
    }
}
