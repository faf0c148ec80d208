//! Rows that are written without an embedding.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::embedder::Embedder;
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::trigger::{Fired, NewRow};
use crate::pg::vector::Vector;
use crate::pg::version::SameVersion;

/// The kind of rows whose prompt is embedded; of all others it is the image.
const PROMPT: &str = "prompt";

/// The trigger of every classifier's table for rows without an embedding: embeds the prompt of a
/// prompt, and the picture of an image, with the classifier's model.
#[pg_extern(sql = r#"
CREATE FUNCTION susx.embed_row() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn embed_row(_version: SameVersion, fired: Fired) -> Result<NewRow, ErrorReport> {
    let trigger = fired.trigger()?;
    Ok(NewRow::of(with_embedding(&trigger)?))
}

fn with_embedding<'a>(trigger: &'a PgTrigger<'a>) -> Result<PgHeapTuple<'a, AllocatedByRust>> {
    // Only an INSERT or UPDATE has a new row, and only FOR EACH ROW.
    let row = trigger.new().filter(|_| trigger.event().fired_before());
    let mut row = row.ok_or(Error::NotThisTrigger)?.into_owned();
    let classifier = RegClass(trigger.relid().map_err(Error::internal)?);
    // First of all: another table need not have these columns.
    classifier.open_for_reading()?;
    let embedder = Embedder::of(classifier)?;
    if row.get_by_name::<Vector>("embedding").map_err(Error::internal)?.is_none() {
        let embedding = embed(&row, &embedder)?;
        row.set_by_name("embedding", embedding).map_err(Error::internal)?;
    }
    Ok(row)
}

fn embed(row: &PgHeapTuple<AllocatedByRust>, embedder: &Embedder) -> Result<Vector> {
    let bad = |_, failure| Error::Server(failure);
    let kind: Option<&str> = row.get_by_name("kind").map_err(Error::internal)?;
    let vectors = if kind == Some(PROMPT) {
        let prompt: Option<&str> = row.get_by_name("prompt").map_err(Error::internal)?;
        prompt.filter(|prompt| !prompt.trim().is_empty()).map(|prompt| embedder.texts(&[prompt], bad))
    } else {
        let image: Option<&[u8]> = row.get_by_name("image").map_err(Error::internal)?;
        image.map(|image| embedder.images(&[image], bad))
    };
    let missing = || Error::NothingToEmbed {
        kind: kind.unwrap_or("NULL").to_owned(),
        needed: if kind == Some(PROMPT) { "a prompt" } else { "an image" },
    };
    vectors.transpose()?.and_then(|vectors| vectors.into_iter().next()).ok_or_else(missing)
}
