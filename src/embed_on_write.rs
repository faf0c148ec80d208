//! `susx.embed_on_write(...)`: the trigger of a table of images that embeds the rows a statement has written.
//!
//! It is fired once per statement and embeds all its rows together. Its own UPDATE fires the trigger again, which then
//! finds nothing to do, because no image has changed.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::batches::{EMBEDDED_BYTES, EMBEDDED_ROWS};
use crate::embedding_stream::{Counts, EmbeddingStream, Target, clear};
use crate::inference::client;
use crate::on_error::OnError;
use crate::pg::catalog::image_table::ImageTable;
use crate::pg::catalog::transition_rows::{TransitionRows, TransitionTables};
use crate::pg::error::{Error, Result, SqlError};
use crate::pg::message::warn;
use crate::pg::regclass::RegClass;
use crate::pg::trigger::{NewRow, TriggerCall};
use crate::pg::version::SameVersion;

/// The trigger is declared wrongly. The HINT is a statement that declares it correctly.
#[derive(Debug, thiserror::Error)]
#[error("susx.embed_on_write() {message}")]
struct WriteTriggerError {
    message: String,
    hint: String,
}

impl SqlError for WriteTriggerError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED
    }

    fn hint(&self) -> Option<String> {
        Some(self.hint.clone())
    }
}

/// Embeds the rows that a statement has written without an embedding, or with that of a former image.
#[pg_extern(sql = r#"
CREATE FUNCTION susx.embed_on_write() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn embed_on_write(_version: SameVersion, call: TriggerCall) -> Result<NewRow, ErrorReport> {
    embed(&call.trigger()?)?;
    Ok(NewRow::NONE)
}

fn embed(trigger: &PgTrigger) -> Result<()> {
    let relation = RegClass(trigger.relid().map_err(Error::internal)?);
    let arguments = trigger.extra_args().map_err(Error::internal)?;
    let misdeclared = |message: &str| declaration_error(relation, trigger, &arguments, message);
    let event = trigger.event();
    let is_update = event.fired_by_update();
    if event.fired_for_row() || !event.fired_after() {
        return Err(misdeclared("must be fired AFTER the statement, FOR EACH STATEMENT")?);
    }
    if !event.fired_by_insert() && !is_update {
        return Err(misdeclared("must be fired by INSERT or UPDATE")?);
    }
    let new = trigger.new_transition_table_name().map_err(Error::internal)?;
    let old = trigger.old_transition_table_name().map_err(Error::internal)?;
    let tables = match (new, old) {
        (Some(new), None) if !is_update => TransitionTables { new, old: None },
        (Some(new), Some(old)) => TransitionTables { new, old: Some(old) },
        _ if is_update => return Err(misdeclared("needs the rows before and after the UPDATE")?),
        _ => return Err(misdeclared("needs the rows of the INSERT")?),
    };
    let (image, embedding, others) = match &arguments[..] {
        [image, embedding, others @ ..] if others.len() <= 2 => (image, embedding, others),
        _ => {
            return Err(misdeclared(
                "takes the columns of images and of embeddings, and optionally a model and on_error",
            )?);
        }
    };
    let model = others.first().map(String::as_str).filter(|model| !model.is_empty());
    let on_error = others
        .get(1)
        .map_or(Ok(OnError::Stop), |name| OnError::named(name, &[OnError::Stop, OnError::Record]))?;

    let images = ImageTable::open(relation, image, embedding)?;
    let counts = embed_rows(&images, TransitionRows::open(&images, trigger, tables)?, model, on_error)?;
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
                    Some(image) => batch.push((Target { id: row.id, is_stale: row.is_stale }, image)),
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
            Some(batch) => counts.add(batch.write(images, on_error)?),
            None => return Ok(counts),
        }
    }
}

/// The error that the trigger is declared wrongly. Its hint shows a right declaration.
fn declaration_error(
    relation: RegClass,
    trigger: &PgTrigger,
    arguments: &[String],
    message: &str,
) -> Result<Error> {
    let (event, tables) = match trigger.event().fired_by_update() {
        true => ("UPDATE", "OLD TABLE AS old NEW TABLE AS new"),
        false => ("INSERT", "NEW TABLE AS new"),
    };
    let column = |index: usize, usual: &str| match arguments.get(index) {
        Some(name) => pgrx::spi::quote_literal(name),
        None => format!("'{usual}'"),
    };
    Ok(WriteTriggerError {
        message: message.to_owned(),
        hint: format!(
            "CREATE TRIGGER embed_{} AFTER {event} ON {} REFERENCING {tables} FOR EACH STATEMENT \
             EXECUTE FUNCTION susx.embed_on_write({}, {});",
            event.to_lowercase(),
            relation.quoted()?,
            column(0, "image"),
            column(1, "embedding"),
        ),
    }
    .into())
}
