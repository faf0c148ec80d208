//! `susx.embed_row()`: the trigger of a classifier's table that embeds rows written without an embedding.
//!
//! An image gets its likeness vector with its embedding, if it has none yet and the classifier has a model for these.

use pgrx::datum::{TryFromDatumError, UnboxDatum};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{FromDatum, IntoDatum};

use crate::embedder::Embedder;
use crate::image_vectors::ImageVectors;
use crate::limits;
use crate::pg::catalog::classifier as catalog;
use crate::pg::column_error::ColumnError;
use crate::pg::error::{Error, Result, SqlError};
use crate::pg::image::Image;
use crate::pg::regclass::RegClass;
use crate::pg::trigger::{NewRow, TriggerCall};
use crate::pg::types::type_name;
use crate::pg::vector::Vector;
use crate::pg::version::SameVersion;

/// Why a row cannot be embedded.
#[derive(Debug, thiserror::Error)]
enum EmbedRowError {
    #[error("susx.embed_row() must be fired BEFORE INSERT OR UPDATE, FOR EACH ROW")]
    NotThisTrigger,
    #[error("a row of kind \"{kind}\" without an embedding needs {needed}")]
    NothingToEmbed { kind: String, needed: &'static str },
}

impl SqlError for EmbedRowError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        match self {
            EmbedRowError::NotThisTrigger => PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
            EmbedRowError::NothingToEmbed { .. } => PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            EmbedRowError::NotThisTrigger => None,
            EmbedRowError::NothingToEmbed { .. } => Some(
                "A row of kind 'prompt' or 'negative' has a prompt, one of kind 'image' an image.".to_owned(),
            ),
        }
    }
}

/// The kinds of rows whose prompt is embedded. In rows of any other kind it is the image.
const WITH_PROMPT: [&str; 2] = ["prompt", "negative"];

/// Embeds the text of a prompt, or the file of an image, with the classifier's models.
#[pg_extern(sql = r#"
CREATE FUNCTION susx.embed_row() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn embed_row(_version: SameVersion, call: TriggerCall) -> Result<NewRow, ErrorReport> {
    let trigger = call.trigger()?;
    Ok(NewRow::of(with_embedding(&trigger)?))
}

fn with_embedding<'a>(trigger: &'a PgTrigger<'a>) -> Result<PgHeapTuple<'a, AllocatedByRust>> {
    // Only an INSERT or UPDATE has a new row, and only FOR EACH ROW.
    let row = trigger.new().filter(|_| trigger.event().fired_before());
    let mut row = row.ok_or(EmbedRowError::NotThisTrigger)?.into_owned();
    let classifier = RegClass(trigger.relid().map_err(Error::internal)?);
    // Checked first, because a table that is no classifier need not have these columns.
    classifier.open_for_reading()?;
    let embedder = Embedder::of(classifier)?;
    if column::<Vector>(&row, classifier, "embedding")?.is_none() {
        let embedder =
            if needs_likeness(&row, classifier, &embedder)? { embedder } else { embedder.without_likeness() };
        let ImageVectors { embedding, likeness } = embed(&row, classifier, &embedder)?;
        set(&mut row, classifier, "embedding", embedding)?;
        if let Some(likeness) = likeness {
            set(&mut row, classifier, "likeness", likeness)?;
        }
    }
    Ok(row)
}

/// Whether an image is to get a likeness vector. Tables that never had any may lack the column.
fn needs_likeness(
    row: &PgHeapTuple<'_, AllocatedByRust>,
    classifier: RegClass,
    embedder: &Embedder,
) -> Result<bool> {
    Ok(embedder.has_likeness()
        && catalog::has_likeness_column(classifier)?
        && column::<Vector>(row, classifier, "likeness")?.is_none())
}

fn set(
    row: &mut PgHeapTuple<'_, AllocatedByRust>,
    classifier: RegClass,
    name: &str,
    value: Vector,
) -> Result<()> {
    row.set_by_name(name, value).map_err(|error| bad_column(classifier, name, error))
}

/// The value of a column that a classifier's table has.
fn column<'a, T: FromDatum + IntoDatum + UnboxDatum<As<'a> = T> + 'a>(
    row: &'a PgHeapTuple<'_, AllocatedByRust>,
    classifier: RegClass,
    name: &str,
) -> Result<Option<T>> {
    row.get_by_name(name).map_err(|error| bad_column(classifier, name, error))
}

/// The error if somebody has dropped or changed such a column.
fn bad_column(classifier: RegClass, name: &str, error: TryFromDatumError) -> Error {
    let column = name.to_owned();
    match error {
        TryFromDatumError::IncompatibleTypes { rust_oid, datum_oid, .. } => {
            ColumnError::Type { column, found: type_name(datum_oid), expected: type_name(rust_oid) }.into()
        }
        TryFromDatumError::NoSuchAttributeName(_) => match classifier.name() {
            Ok(relation) => ColumnError::NoColumn { relation, column }.into(),
            Err(error) => error,
        },
        other => Error::internal(other),
    }
}

fn embed(
    row: &PgHeapTuple<'_, AllocatedByRust>,
    classifier: RegClass,
    embedder: &Embedder,
) -> Result<ImageVectors> {
    let bad = |_, failure| Error::from(failure);
    let kind: Option<&str> = column(row, classifier, "kind")?;
    let has_prompt = kind.is_some_and(|kind| WITH_PROMPT.contains(&kind));
    let vectors = if has_prompt {
        let prompt: Option<&str> = column(row, classifier, "prompt")?;
        limits::check_bytes("a prompt", limits::TEXT_BYTES, prompt.map_or(0, str::len))?;
        let prompt = prompt.filter(|prompt| !prompt.trim().is_empty());
        let vectors = prompt.map(|prompt| embedder.texts(&[prompt], bad)).transpose()?;
        vectors.map(|vectors| vectors.into_iter().map(ImageVectors::from).collect::<Vec<_>>())
    } else {
        let image: Option<Image> = column(row, classifier, "image")?;
        image.map(|image| embedder.images(&[image.file()?], bad)).transpose()?
    };
    let missing = || {
        let needed = if has_prompt { "a prompt" } else { "an image" };
        EmbedRowError::NothingToEmbed { kind: kind.unwrap_or("NULL").to_owned(), needed }.into()
    };
    vectors.and_then(|vectors| vectors.into_iter().next()).ok_or_else(missing)
}
