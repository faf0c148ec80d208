//! How much a caller, or a row, may ask for at most.
//!
//! Whoever may call a function may call it with any number: without limits one call would take all memory, which
//! PostgreSQL answers by restarting every session, or years. Each limit is far above what anybody needs and far below
//! what does harm. README.md has the table of them.

use pgrx::PgSqlErrorCode;
use susx_server::limits;
use susx_server::protocol::{self, Failure};

use crate::pg::error::{Error, Result, SqlError};

/// Elements of an array: images, texts, prompts or vectors. A vector for each comes back at once: 200 MB of 512
/// dimensions.
pub const ELEMENTS: usize = 100_000;
/// Categories of a classifier: twice those of the largest ImageNet. Every answer has a number for each.
pub const CATEGORIES: usize = susx_core::sus::MOST_CATEGORIES;
/// Prompts that one call makes: categories times templates, or sentences. ImageNet's 1,000 categories with CLIP's 80
/// templates are 80,000.
pub const PROMPTS: usize = 200_000;
/// Bytes of them together.
pub const PROMPT_BYTES: usize = 256 << 20;
/// Bytes of one name or sentence: a category, a template, a prompt or the key of an image of a pool.
pub const TEXT_BYTES: usize = 64 << 10;
/// Bytes of the name of a table: PostgreSQL itself takes 63.
pub const NAME_BYTES: usize = 1024;
/// Bytes of a file of prompts in JSON: a hundred times ImageNet's.
pub const JSON_BYTES: usize = 32 << 20;
/// Support images of a category that one call retrieves or generates.
pub const PER_CLASS: usize = 10_000;
/// Candidates of a retrieval, prompts times images: a gigabyte with their keys.
pub const CANDIDATES: usize = 10_000_000;
/// Images that one call generates, categories times images: weeks on the fastest GPU.
pub const GENERATED: usize = 1_000_000;
/// Denoising steps, and pixels of a side, of a generated image: what the inference process itself allows.
pub const STEPS: usize = limits::MAX_STEPS as usize;
pub const SIDE: usize = limits::MAX_SIDE as usize;
/// Best categories that are asked for, and support rows that explain one.
pub const BEST: usize = 100_000;
/// Rows that explain a label, categories times support rows.
pub const EXPLAINED: usize = 1_000_000;
/// Images of a transaction of `embed_table`.
pub const BATCH_SIZE: usize = 10_000;
/// Images that settings are tuned on. They are counted in 32 bits.
pub const TUNED: usize = i32::MAX as usize;

/// A limit was exceeded. `unit` is empty, or begins with a space: ` bytes`.
#[derive(Debug, thiserror::Error)]
#[error("{what} must be at most {most}{unit}, not {found}")]
struct LimitExceeded {
    what: String,
    most: usize,
    found: usize,
    unit: &'static str,
}

impl SqlError for LimitExceeded {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED
    }

    fn hint(&self) -> Option<String> {
        Some("What is limited, and why, is in the table \"Limits\" of susx's manual.".to_owned())
    }
}

/// A number of things, from 1 to `most`.
pub fn count(argument: i32, name: &str, most: usize) -> Result<usize> {
    match usize::try_from(argument) {
        Ok(count) if count > most => {
            Err(Error::argument(format!("{name} must be at most {most}, not {argument}")))
        }
        Ok(count) if count > 0 => Ok(count),
        _ => Err(Error::argument(format!("{name} must be at least 1, not {argument}"))),
    }
}

/// An error if there is more of something than there may be. `what` is such as `the number of categories`.
pub fn check(what: impl Into<String>, most: usize, found: usize) -> Result<()> {
    check_unit(what, most, found, "")
}

/// As [`check`], of bytes.
pub fn check_bytes(what: impl Into<String>, most: usize, found: usize) -> Result<()> {
    check_unit(what, most, found, " bytes")
}

fn check_unit(what: impl Into<String>, most: usize, found: usize, unit: &'static str) -> Result<()> {
    if found <= most { Ok(()) } else { Err(exceeded(what, most, found, unit)) }
}

/// The error of more than there may be. `unit` is such as ` bytes`.
pub fn exceeded(what: impl Into<String>, most: usize, found: usize, unit: &'static str) -> Error {
    LimitExceeded { what: what.into(), most, found, unit }.into()
}

/// An error if an array has too many elements.
pub fn check_elements(name: &str, found: usize) -> Result<()> {
    check(format!("the number of elements of {name}"), ELEMENTS, found)
}

/// An error if an element of an array, counted from 0, is too long a text.
pub fn check_element(name: &str, place: usize, text: &str) -> Result<()> {
    match text.len() {
        0..=TEXT_BYTES => Ok(()),
        found => check_bytes(format!("element {} of {name}", place + 1), TEXT_BYTES, found),
    }
}

/// An error if the name of a table is too long to be one.
pub fn check_name(name: &str, text: Option<&str>) -> Result<()> {
    check_bytes(name, NAME_BYTES, text.map_or(0, str::len))
}

/// An error if no model can have that name. The inference process refuses every name that is longer than a file's, and
/// says which models there are; what is longer than any text is not even sent.
pub fn check_model_name(name: Option<&str>) -> Result<()> {
    match name.map_or(0, str::len) {
        0..=TEXT_BYTES => Ok(()),
        found => {
            let hint = "SELECT name FROM susx.models() shows the names of all models.".to_owned();
            Err(Failure { hint: Some(hint), ..protocol::no_model_has_such_a_name(found) }.into())
        }
    }
}
