//! `susx.embed_on_write(...)`: the trigger of a table of images that embeds the rows a statement has written.
//!
//! It is fired once per statement and embeds all its rows together. Its own UPDATE fires the trigger again, which then
//! finds nothing to do, because no image has changed.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::batches::{EMBEDDED_BYTES, EMBEDDED_ROWS};
use crate::embedding_stream::{Counts, EmbeddingStream, Found, Target, clear};
use crate::inference::client;
use crate::on_error::OnError;
use crate::pg::catalog::image_table::ImageTable;
use crate::pg::catalog::transition_rows::TransitionRows;
use crate::pg::error::Result;
use crate::pg::message::warn;
use crate::pg::trigger::{NewRow, TriggerCall};
use crate::pg::version::SameVersion;
use crate::write_trigger::{Usage, WriteTrigger};

const USAGE: Usage = Usage { function: "embed_on_write", verb: "embed", arguments: &["image", "embedding"] };

/// Embeds the rows that a statement has written without an embedding, or with that of a former image.
#[pg_extern(sql = r#"
CREATE FUNCTION susx.embed_on_write() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn embed_on_write(_version: SameVersion, call: TriggerCall) -> Result<NewRow, ErrorReport> {
    embed(&call.trigger()?)?;
    Ok(NewRow::NONE)
}

fn embed(trigger: &PgTrigger) -> Result<()> {
    let write = WriteTrigger::open(trigger, &USAGE)?;
    let (image, embedding) = match &write.arguments[..] {
        [image, embedding, others @ ..] if others.len() <= 2 => (image, embedding),
        _ => {
            return Err(write.misdeclared(
                "takes the columns of images and of embeddings, and optionally a model and on_error",
            )?);
        }
    };
    let model = write.argument(2);
    let on_error = write
        .arguments
        .get(3)
        .map_or(Ok(OnError::Stop), |name| OnError::named(name, &[OnError::Stop, OnError::Record]))?;

    let images = ImageTable::open(write.relation, image, embedding)?;
    let counts = embed_rows(&images, TransitionRows::open(&images, trigger, write.tables)?, model, on_error)?;
    if counts.failed > 0 {
        warn(format!(
            "{} of {} images of \"{}\" could not be embedded: see susx.errors",
            counts.failed,
            counts.failed + counts.embedded,
            images.name
        ));
    }
    Ok(())
}

fn embed_rows(
    images: &ImageTable,
    mut rows: TransitionRows,
    model: Option<&str>,
    on_error: OnError,
) -> Result<Counts> {
    // Opened for the first image: most statements leave nothing to embed.
    let mut stream: Option<EmbeddingStream> = None;
    let mut counts = Counts::default();
    let mut has_read_all = false;
    loop {
        while !has_read_all && stream.as_ref().is_none_or(EmbeddingStream::wants_more) {
            let read = rows.next(EMBEDDED_ROWS, EMBEDDED_BYTES)?;
            has_read_all = read.is_empty();
            let (mut batch, mut cleared) = (Vec::new(), Vec::new());
            for row in read {
                match row.image {
                    Some(image) => {
                        let found = if row.is_stale { Found::Stale } else { Found::None };
                        batch.push((Target { id: row.id, found }, image));
                    }
                    None => cleared.push(row.id),
                }
            }
            clear(images, &cleared.iter().collect::<Vec<_>>())?;
            if !batch.is_empty() {
                let stream = match &mut stream {
                    Some(stream) => stream,
                    none => none.insert(EmbeddingStream::new(&images.claim_for(&client::describe(model)?)?)),
                };
                stream.submit(batch)?;
            }
        }
        match stream.as_mut().map_or(Ok(None), EmbeddingStream::next)? {
            Some(batch) => counts.add(batch.write(images, on_error)?.counts),
            None => return Ok(counts),
        }
    }
}
