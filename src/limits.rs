//! Limits on arguments and on the content of rows.
//!
//! Without limits, a single call with a large argument could run for years, or use up all memory, and PostgreSQL would
//! restart all sessions. Each limit is far above any practical use and far below what does harm. docs/reference.md lists them.

use pgrx::PgSqlErrorCode;
use susx_server::limits;
use susx_server::protocol::{self, Failure};

use crate::pg::error::{Error, Result, SqlError};

/// Elements of an array: images, texts, prompts or vectors. The vectors of all of them are in memory at once: 200 MB
/// for 512 dimensions.
pub const ELEMENTS: usize = 100_000;
/// Categories of a classifier: twice as many as the largest ImageNet has. Every answer computes a score for each.
pub const CATEGORIES: usize = susx_core::sus::MOST_CATEGORIES;
/// Prompts of one call: categories times templates, or sentences. ImageNet's 1,000 categories with CLIP's 80 templates
/// are 80,000.
pub const PROMPTS: usize = 200_000;
/// Bytes of all prompts of one call together.
pub const PROMPT_BYTES: usize = 256 << 20;
/// Bytes of one name or sentence: a category, a template, a prompt or the key of an image of a pool.
pub const TEXT_BYTES: usize = 64 << 10;
/// Bytes of the name of a table. PostgreSQL truncates names to 63.
pub const NAME_BYTES: usize = 1024;
/// Bytes of prompts in JSON: a hundred times those for ImageNet.
pub const JSON_BYTES: usize = 32 << 20;
/// Support images of a category that one call retrieves or generates.
pub const PER_CLASS: usize = 10_000;
/// Candidates of a retrieval, prompts times images. They take about a gigabyte with their keys.
pub const CANDIDATES: usize = 10_000_000;
/// Images that one call generates, categories times images. This takes weeks on the fastest GPU.
pub const GENERATED: usize = 1_000_000;
/// Denoising steps of a generated image: the limit of the inference process.
pub const STEPS: usize = limits::MAX_STEPS as usize;
/// Width or height of a generated image in pixels: the limit of the inference process.
pub const SIDE: usize = limits::MAX_SIDE as usize;
/// Best categories per image, and support rows that explain one category.
pub const BEST: usize = 100_000;
/// Bins of a calibration.
pub const BINS: usize = 1000;
/// Rows of a review queue: more than a person looks at in a sitting. Ten times as many vectors are kept for each reason.
pub const REVIEWED: usize = 1000;
/// Rows that explain a label, categories times support rows.
pub const EXPLAINED: usize = 1_000_000;
/// Thumbnails on a page, and on the sheet of a category.
pub const THUMBNAILS: usize = 1_000;
/// Bytes of the thumbnails that a report keeps until it knows which of them it will show.
pub const REPORT_BYTES: usize = 512 << 20;
/// Images of a contact sheet: the limit of the inference process, as the next two.
pub const SHEET_IMAGES: usize = limits::MAX_SHEET_IMAGES;
/// Columns of a contact sheet.
pub const SHEET_COLUMNS: usize = limits::MAX_SHEET_COLUMNS as usize;
/// Pixels of a contact sheet.
pub const SHEET_PIXELS: usize = limits::MAX_SHEET_PIXELS as usize;
/// Rows in a transaction of `embed_table` and `label_table`.
pub const BATCH_SIZE: usize = 10_000;
/// Images to tune settings on. Their count has 32 bits.
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
        Some("See \"Limits\" in the reference of susx's manual.".to_owned())
    }
}

/// The value of an argument that must be from 1 to `most`.
pub fn count(argument: i32, name: &str, most: usize) -> Result<usize> {
    match usize::try_from(argument) {
        Ok(count) if count > most => {
            Err(Error::argument(format!("{name} must be at most {most}, not {argument}")))
        }
        Ok(count) if count > 0 => Ok(count),
        _ => Err(Error::argument(format!("{name} must be at least 1, not {argument}"))),
    }
}

/// A cosine above 0, at or above which images are near-duplicates.
pub fn similarity(argument: f64, name: &str) -> Result<f32> {
    // Not so for NaN.
    if argument > 0.0 && argument <= 1.0 {
        return Ok(argument as f32);
    }
    let message = format!("{name} must be greater than 0 and at most 1, not {argument}");
    Err(Error::argument(message).with_hint("It is the cosine of two images, which is 1 for identical ones."))
}

/// A probability from 0 to 1.
pub fn probability(argument: f64) -> Result<f32> {
    // Not so for NaN.
    if (0.0..=1.0).contains(&argument) {
        return Ok(argument as f32);
    }
    Err(Error::argument(format!("min_probability must be a number from 0 to 1, not {argument}")))
}

/// An error if `found` exceeds `most`. `what` is a phrase such as `the number of categories`.
pub fn check(what: impl Into<String>, most: usize, found: usize) -> Result<()> {
    check_unit(what, most, found, "")
}

/// Like [`check`], for a number of bytes.
pub fn check_bytes(what: impl Into<String>, most: usize, found: usize) -> Result<()> {
    check_unit(what, most, found, " bytes")
}

/// Like [`check`], for a number of pixels.
pub fn check_pixels(what: impl Into<String>, most: usize, found: usize) -> Result<()> {
    check_unit(what, most, found, " pixels")
}

fn check_unit(what: impl Into<String>, most: usize, found: usize, unit: &'static str) -> Result<()> {
    if found <= most { Ok(()) } else { Err(exceeded(what, most, found, unit)) }
}

/// The error that `found` exceeds `most`. `unit` is empty, or such as ` bytes`.
pub fn exceeded(what: impl Into<String>, most: usize, found: usize, unit: &'static str) -> Error {
    LimitExceeded { what: what.into(), most, found, unit }.into()
}

/// An error if an array has too many elements.
pub fn check_elements(name: &str, found: usize) -> Result<()> {
    check(format!("the number of elements of {name}"), ELEMENTS, found)
}

/// An error if the text at `index` (from 0) in an array is too long.
pub fn check_element(name: &str, index: usize, text: &str) -> Result<()> {
    match text.len() {
        0..=TEXT_BYTES => Ok(()),
        found => check_bytes(format!("element {} of {name}", index + 1), TEXT_BYTES, found),
    }
}

/// An error if the name of a table is too long.
pub fn check_name(name: &str, text: Option<&str>) -> Result<()> {
    check_bytes(name, NAME_BYTES, text.map_or(0, str::len))
}

/// An error if the name of a model is longer than any text may be; such a name is not sent. The inference process
/// refuses shorter names that are too long for a file, and lists the models.
pub fn check_model_name(name: Option<&str>) -> Result<()> {
    match name.map_or(0, str::len) {
        0..=TEXT_BYTES => Ok(()),
        found => {
            let hint = "SELECT name FROM susx.models() shows the names of all models.".to_owned();
            Err(Failure { hint: Some(hint), ..protocol::model_name_too_long(found) }.into())
        }
    }
}
