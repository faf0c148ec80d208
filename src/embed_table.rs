//! `CALL susx.embed_table(...)`: fills the NULL embeddings of a table of images.
//!
//! Rows are read in the order of their keys and written in batches, each in a transaction of its own, while the
//! inference process works on the following batches. Between the transactions, where most of the time goes, the call
//! holds no lock and no snapshot. What is committed stays: after an interruption, the same call continues.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::batches::{EMBEDDED_BYTES, EMBEDDED_ROWS};
use crate::embedding_stream::{Counts, EmbeddedBatch, EmbeddingStream, Target};
use crate::inference::client;
use crate::limits;
use crate::on_error::OnError;
use crate::pg::catalog::image_table::{ImageTable, Retry};
use crate::pg::catalog::{errors, prevent_command_in_read_only};
use crate::pg::embedding_model::EmbeddingModel;
use crate::pg::error::{Error, Result, SqlError};
use crate::pg::image::Image;
use crate::pg::message::{note, warn};
use crate::pg::name::Name;
use crate::pg::procedure::Procedure;
use crate::pg::progress::{Command, Phase, Progress};
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;

/// How often a call goes through the table at most, to try rows again that others changed in the meantime.
const MAX_PASSES: usize = 3;

/// Fills the NULL embeddings of a table of images, with a COMMIT per batch.
#[pg_extern(sql = r#"
CREATE PROCEDURE susx.embed_table(
    rel regclass,
    image_column name DEFAULT 'image',
    embedding_column name DEFAULT 'embedding',
    batch_size integer DEFAULT NULL,
    model text DEFAULT NULL,
    on_error text DEFAULT 'record'
) LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
#[allow(clippy::too_many_arguments)]
fn embed_table(
    _version: SameVersion,
    rel: Option<RegClass>,
    image_column: Option<Name>,
    embedding_column: Option<Name>,
    batch_size: Option<i32>,
    model: Option<&str>,
    on_error: Option<&str>,
    call: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let relation = Error::required(rel, "rel")?;
    let Name(image_column) = Error::required(image_column, "image_column")?;
    let Name(embedding_column) = Error::required(embedding_column, "embedding_column")?;
    let batch_size =
        batch_size.map_or(Ok(EMBEDDED_ROWS), |size| limits::count(size, "batch_size", limits::BATCH_SIZE))?;
    let on_error = OnError::named(Error::required(on_error, "on_error")?, &OnError::ALL)?;
    prevent_command_in_read_only(c"susx.embed_table");
    let procedure = Procedure::enter(call, "susx.embed_table")?;
    let call = EmbedCall { procedure, relation, image_column, embedding_column, batch_size, on_error };
    Ok(call.embed(model)?)
}

/// The table was changed or dropped during the call.
#[derive(Debug, thiserror::Error)]
#[error("relation \"{0}\" was changed or dropped while it was being embedded")]
struct TableChanged(String);

impl SqlError for TableChanged {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
    }

    fn hint(&self) -> Option<String> {
        Some("What was committed stays: call susx.embed_table again for the rest.".to_owned())
    }
}

/// A call and its arguments.
#[derive(Debug)]
struct EmbedCall {
    procedure: Procedure,
    relation: RegClass,
    image_column: String,
    embedding_column: String,
    batch_size: usize,
    on_error: OnError,
}

/// The state when the call began.
#[derive(Debug)]
struct Start {
    images: ImageTable,
    model: EmbeddingModel,
    /// The number of images to embed.
    total: u64,
    /// A timestamptz.
    time: String,
}

/// Rows with their images.
type ImageBatch = Vec<(Target, Image)>;

/// The values of a row's key columns.
type Key = Vec<String>;

/// One pass through the table.
#[derive(Debug, Default)]
struct Pass {
    /// The key after which the next batch begins; `None` for the first row.
    after: Option<Key>,
    /// The same for every batch that has been submitted.
    submitted_after: VecDeque<Option<Key>>,
    has_read_all: bool,
    counts: Counts,
    /// Rows that failed before and are not tried again.
    skipped: u64,
    /// The key after which the first batch with a changed row begins: the next pass begins there.
    retry_after: Option<Option<Key>>,
}

impl EmbedCall {
    fn embed(&self, model: Option<&str>) -> Result<()> {
        let mut progress = Progress::start(Command::EmbedTable, self.relation);
        let start = self.procedure.transaction(|| self.start(model))?;
        progress.phase(Phase::Embedding, Some(start.total));
        let mut stream = EmbeddingStream::new(&start.model);
        let mut total = Counts::default();
        let mut skipped = None;
        let mut after = None;
        for _ in 0..MAX_PASSES {
            let mut pass = Pass { after, ..Pass::default() };
            self.read_ahead(&start, &mut stream, &mut pass)?;
            while let Some(batch) = stream.next()? {
                // Submits more before it writes, so that the inference process has work meanwhile.
                self.read_ahead(&start, &mut stream, &mut pass)?;
                self.write(&start, batch, &mut pass, &mut progress)?;
            }
            total.embedded += pass.counts.embedded;
            total.failed += pass.counts.failed;
            total.changed = pass.counts.changed;
            // Only the first pass counts: later ones skip the same rows again, and those that this call recorded.
            skipped.get_or_insert(pass.skipped);
            let has_progress = pass.counts.embedded + pass.counts.failed > 0;
            let Some(retry_after) = pass.retry_after.filter(|_| has_progress) else { break };
            after = retry_after;
        }
        let skipped = skipped.filter(|_| self.on_error == OnError::Record).unwrap_or(0);
        report(&start.images.name, total, skipped);
        Ok(())
    }

    fn start(&self, model: Option<&str>) -> Result<Start> {
        let images = ImageTable::open(self.relation, &self.image_column, &self.embedding_column)?;
        let model = client::describe(model)?;
        if let Some(dimensions) = model.dimensions {
            images.check_dimensions(dimensions as usize)?;
        }
        let model = images.claim_for(&model)?;
        let time = errors::now()?;
        let total = images.count(&self.retry(&time))?;
        Ok(Start { images, model, total, time })
    }

    fn retry(&self, start: &str) -> Retry {
        match self.on_error {
            OnError::Record => Retry::Changed,
            OnError::Retry | OnError::Stop => Retry::Before(start.to_owned()),
        }
    }

    /// The table as it is now: another transaction may have renamed it. An error if it was dropped, or has another key.
    fn images(&self, start: &Start) -> Result<ImageTable> {
        let changed = || TableChanged(start.images.name.clone()).into();
        match ImageTable::open(self.relation, &self.image_column, &self.embedding_column) {
            Ok(images) if images.has_the_key_of(&start.images) => Ok(images),
            Ok(_) => Err(changed()),
            Err(error) if error.is_undefined_table() => Err(changed()),
            Err(error) => Err(error),
        }
    }

    /// Submits batches until enough are ahead.
    fn read_ahead(&self, start: &Start, stream: &mut EmbeddingStream, pass: &mut Pass) -> Result<()> {
        while !pass.has_read_all && stream.wants_more() {
            let (batch, skipped) = self.procedure.transaction(|| self.read(start, pass.after.as_deref()))?;
            pass.skipped += skipped;
            let Some((last, _)) = batch.last() else {
                pass.has_read_all = true;
                return Ok(());
            };
            let last = last.id.key.clone();
            pass.submitted_after.push_back(pass.after.replace(last));
            stream.submit(batch)?;
        }
        Ok(())
    }

    /// The next rows with their images, and how many rows were skipped because they failed before.
    fn read(&self, start: &Start, after: Option<&[String]>) -> Result<(ImageBatch, u64)> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let skipped =
            self.images(start)?.read(after, &self.retry(&start.time), self.batch_size, |id, image| {
                bytes += image.size();
                batch.push((Target { id, is_stale: false }, image));
                Ok(if bytes < EMBEDDED_BYTES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
        Ok((batch, skipped))
    }

    fn write(
        &self,
        start: &Start,
        batch: EmbeddedBatch,
        pass: &mut Pass,
        progress: &mut Progress,
    ) -> Result<()> {
        let counts = self.procedure.transaction(|| {
            let images = self.images(start)?;
            images.claim_again_for(&start.model)?;
            batch.write(&images, self.on_error)
        })?;
        let after = pass.submitted_after.pop_front().flatten();
        if counts.changed > 0 {
            pass.retry_after.get_or_insert(after);
        }
        pass.counts.add(counts);
        progress.advance(counts.embedded + counts.failed, counts.failed);
        Ok(())
    }
}

/// Reports which images have no embedding yet, if there are any.
fn report(name: &str, total: Counts, skipped: u64) {
    let Counts { embedded, failed, changed } = total;
    if failed > 0 {
        let tried = embedded + failed;
        warn(format!("{failed} of {tried} images of \"{name}\" could not be embedded: see susx.errors"));
    }
    if skipped > 0 {
        note(format!(
            "{skipped} images of \"{name}\" failed in earlier calls and were not tried again: \
             on_error => 'retry' does that"
        ));
    }
    if changed > 0 {
        note(format!(
            "{changed} rows of \"{name}\" were changed by others in the meantime: call again to embed them"
        ));
    }
}
