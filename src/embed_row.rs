//! `susx.embed_row()`: the trigger of a classifier's table that embeds rows written without an embedding.
//!
//! It also checks the row of settings, which has none. An image gets its likeness vector with its embedding, if it has none
//! yet and the classifier has a model for these.

use pgrx::datum::{TryFromDatumError, UnboxDatum};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{FromDatum, IntoDatum};

use crate::cut_texts;
use crate::embedder::Embedder;
use crate::image_vectors::ImageVectors;
use crate::limits;
use crate::pg::catalog::classifier::{self as catalog, sync};
use crate::pg::column_error::ColumnError;
use crate::pg::encoding::UncheckedText;
use crate::pg::error::{Error, Result, SqlError};
use crate::pg::image::Image;
use crate::pg::jsonb::Jsonb;
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
    // Checked first, because a table that is not a classifier may lack these columns.
    classifier.open_for_reading()?;
    if check_settings(&row, classifier)? {
        return Ok(row);
    }
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

/// Checks the row of settings, which has no embedding. Returns false for any other row.
///
/// Settings apply to all rows, so a caller whom row-level security restricts cannot write them.
fn check_settings(row: &PgHeapTuple<'_, AllocatedByRust>, classifier: RegClass) -> Result<bool> {
    if !sync::is_settings(row)? {
        return Ok(false);
    }
    classifier.check_row_security()?;
    // The constraint of the table refuses NULL.
    if let Some(settings) = column::<Jsonb>(row, classifier, "settings")? {
        catalog::check_settings(classifier, &settings.text()?)?;
    }
    Ok(true)
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

/// The error if such a column was dropped or changed.
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
    let kind: Option<UncheckedText> = column(row, classifier, "kind")?;
    let kind = kind.as_ref().map(UncheckedText::read).transpose()?;
    let has_prompt = kind.is_some_and(|kind| WITH_PROMPT.contains(&kind));
    let vectors = if has_prompt {
        let prompt: Option<UncheckedText> = column(row, classifier, "prompt")?;
        let prompt = prompt.as_ref().map(UncheckedText::read).transpose()?;
        limits::check_bytes("a prompt", limits::TEXT_BYTES, prompt.map_or(0, str::len))?;
        let prompt = prompt.filter(|prompt| !prompt.trim().is_empty());
        let vectors = prompt.map(|prompt| text(row, classifier, embedder, prompt)).transpose()?;
        vectors.map(|vectors| vectors.into_iter().map(ImageVectors::from).collect::<Vec<_>>())
    } else {
        let image: Option<Image> = column(row, classifier, "image")?;
        image.map(|image| embedder.images(&[image.file()?], |_, failure| failure.into())).transpose()?
    };
    let missing = || {
        let needed = if has_prompt { "a prompt" } else { "an image" };
        EmbedRowError::NothingToEmbed { kind: kind.unwrap_or("NULL").to_owned(), needed }.into()
    };
    vectors.and_then(|vectors| vectors.into_iter().next()).ok_or_else(missing)
}

/// The vector of a row's prompt. A WARNING if the model reads only its beginning.
fn text(
    row: &PgHeapTuple<'_, AllocatedByRust>,
    classifier: RegClass,
    embedder: &Embedder,
    prompt: &str,
) -> Result<Vec<Vector>> {
    let (vectors, cuts) = embedder.texts(&[prompt], |_, failure| failure.into())?;
    if let Some(&[cut @ Some(_)]) = cuts.first_chunk() {
        let category: Option<UncheckedText> = column(row, classifier, "category")?;
        let category = category.as_ref().map(UncheckedText::read).transpose()?.unwrap_or("NULL");
        cut_texts::warn_once(cut, || {
            cut_texts::quoted(format_args!("category \"{category}\": the prompt"), prompt)
        });
    }
    Ok(vectors)
}
