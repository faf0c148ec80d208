//! `CALL susx.embed_table(...)`: fills the NULL embeddings of a table of images.
//!
//! Rows are read in the order of their keys and written in batches, each in its own transaction, while the inference
//! process works on the following batches. Between the transactions, where most of the time goes, the call holds no
//! lock on the table and no snapshot. What is committed stays: after an interruption, the same call continues. Two
//! calls for one column take turns, because both would embed the same images.

mod report;

use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;
use std::time::Instant;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_server::protocol::Model;

use crate::batches::{EMBEDDED_BYTES, EMBEDDED_ROWS};
use crate::embedding_stream::{Counts, EmbeddedBatch, EmbeddingStream, Found, Outcome, Target};
use crate::inference::client;
use crate::limits;
use crate::on_error::OnError;
use crate::pg::catalog::image_table::{
    ImageTable, Mark, ReadRows, Retry, Verified, Wanted, current_transaction,
};
use crate::pg::catalog::{errors, prevent_command_in_read_only};
use crate::pg::embedding_model::EmbeddingModel;
use crate::pg::error::{Error, Result, SqlError};
use crate::pg::image::Image;
use crate::pg::job::{Job, Work};
use crate::pg::name::Name;
use crate::pg::procedure::Procedure;
use crate::pg::progress::{Command, Phase, Progress};
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;

/// How often a call goes through the table at most, to try rows again that others changed in the meantime, or that the
/// call itself has written.
const MAX_PASSES: usize = 3;

/// Fills the NULL embeddings of a table of images, with a COMMIT per batch; with `refresh`, also replaces those of images
/// that have changed since.
#[pg_extern(sql = r#"
CREATE PROCEDURE susx.embed_table(
    rel regclass,
    image_column name DEFAULT 'image',
    embedding_column name DEFAULT 'embedding',
    batch_size integer DEFAULT NULL,
    model text DEFAULT NULL,
    on_error text DEFAULT 'record',
    refresh boolean DEFAULT false
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
    refresh: Option<bool>,
    call: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let relation = Error::required(rel, "rel")?;
    let Name(image_column) = Error::required(image_column, "image_column")?;
    let Name(embedding_column) = Error::required(embedding_column, "embedding_column")?;
    let batch_size =
        batch_size.map_or(Ok(EMBEDDED_ROWS), |size| limits::count(size, "batch_size", limits::BATCH_SIZE))?;
    let on_error = OnError::named(Error::required(on_error, "on_error")?, &OnError::ALL)?;
    let refreshes = Error::required(refresh, "refresh")?;
    // Copied, because PostgreSQL may free an argument with the first transaction.
    let model = model.map(str::to_owned);
    prevent_command_in_read_only(c"susx.embed_table");
    let procedure = Procedure::enter(call, "susx.embed_table")?;
    let call =
        EmbedCall { procedure, relation, image_column, embedding_column, batch_size, on_error, refreshes };
    Ok(call.embed(model.as_deref())?)
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
        Some("What was committed is kept: call susx.embed_table again for the rest.".to_owned())
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
    refreshes: bool,
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
    /// The statement that creates an index which would make such a call faster.
    missing_index: Option<String>,
}

/// Rows with their images.
type ImageBatch = Vec<(Target, Image)>;

/// The values of a row's key columns.
type Key = Vec<String>;

/// What a call has found out so far.
#[derive(Debug, Default)]
struct Known {
    /// Which rows have the embedding of their own image.
    verified: Verified,
    /// The keys, as text, of rows that this call does not try again.
    done: HashSet<String>,
    /// Whether the table's triggers or policies have kept any row from being written.
    has_refused: bool,
}

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
    /// The keys, as text, of rows that were changed by others.
    changed: Vec<String>,
}

impl EmbedCall {
    fn embed(&self, model: Option<&str>) -> Result<()> {
        let since = Instant::now();
        let mut progress = Progress::start(Command::EmbedTable, self.relation);
        // Its end is that of the call.
        let _job = self.procedure.transaction(|| self.job())?.begin(&self.procedure)?;
        // Loads the model, which may take a while.
        let model = client::describe(model)?;
        let (start, verified) = self.procedure.transaction(|| self.start(&model))?;
        progress.phase(Phase::Embedding, Some(start.total));
        let mut known = Known { verified, ..Known::default() };
        let (total, skipped) = match self.refreshes {
            true => self.refresh(&start, &mut known, &mut progress)?,
            false => self.fill(&start, &mut known, &mut progress)?,
        };
        let skipped = if self.on_error == OnError::Record { skipped } else { 0 };
        report::report(&start.images.name, total, skipped, self.refreshes, since);
        if let Some(create) = start.missing_index {
            report::advise(&start.images.name, &create);
        }
        Ok(())
    }

    /// Embeds the rows without an embedding.
    fn fill(&self, start: &Start, known: &mut Known, progress: &mut Progress) -> Result<(Counts, u64)> {
        let mut total = Counts::default();
        let mut skipped = None;
        let mut after = None;
        for _ in 0..MAX_PASSES {
            let pass = self.pass(after, start, known, progress)?;
            total.add(Counts { changed: 0, ..pass.counts });
            total.changed = pass.counts.changed;
            // Only the first pass counts: later ones skip the same rows again, and those that this call recorded.
            skipped.get_or_insert(pass.skipped);
            let has_progress = pass.counts.embedded + pass.counts.failed > 0;
            let Some(retry_after) = pass.retry_after.filter(|_| has_progress) else { break };
            after = retry_after;
        }
        Ok((total, skipped.unwrap_or(0)))
    }

    /// Embeds the rows without an embedding, and looks at those that were changed since they were looked at before.
    fn refresh(&self, start: &Start, known: &mut Known, progress: &mut Progress) -> Result<(Counts, u64)> {
        let mut total = Counts::default();
        let mut skipped = None;
        for _ in 0..MAX_PASSES {
            let mark = self.procedure.transaction(|| self.images(start)?.mark())?;
            let pass = self.pass(None, start, known, progress)?;
            total.add(Counts { changed: 0, ..pass.counts });
            total.changed = pass.counts.changed;
            skipped.get_or_insert(pass.skipped);
            known.verified.checked(&mark, pass.changed.iter().map(String::as_str));
            if pass.changed.is_empty() && !known.has_refused {
                self.store(start, &mark)?;
            }
            // The rows that this pass has written are newer than the mark. The next pass takes them for its own, so that
            // the next call need not look at them.
            if pass.counts.embedded + pass.counts.changed == 0 {
                break;
            }
        }
        Ok((total, skipped.unwrap_or(0)))
    }

    fn store(&self, start: &Start, mark: &Mark) -> Result<()> {
        self.procedure.transaction(|| self.images(start)?.store_checked(mark))
    }

    fn pass(
        &self,
        after: Option<Key>,
        start: &Start,
        known: &mut Known,
        progress: &mut Progress,
    ) -> Result<Pass> {
        let mut stream = EmbeddingStream::new(&start.model);
        let mut pass = Pass { after, ..Pass::default() };
        self.read_ahead(start, known, &mut stream, &mut pass)?;
        while let Some(batch) = self.next(&mut stream)? {
            // Submits more before it writes, so that the inference process has work in the meantime.
            self.read_ahead(start, known, &mut stream, &mut pass)?;
            self.write(start, batch, known, &mut pass, progress)?;
        }
        Ok(pass)
    }

    /// Waits for the oldest batch. Ends the transaction while it waits, so that no transaction takes much longer than the
    /// inference process takes for one of its replies.
    fn next(&self, stream: &mut EmbeddingStream) -> Result<Option<EmbeddedBatch>> {
        while !stream.is_ready() {
            stream.wait()?;
            self.procedure.transaction(|| Ok(()))?;
        }
        stream.next()
    }

    fn job(&self) -> Result<Job> {
        let images = ImageTable::open(self.relation, &self.image_column, &self.embedding_column)?;
        Job::new(Work::Embedding, self.relation, &self.embedding_column, &images.parents()?)
    }

    fn start(&self, model: &Model) -> Result<(Start, Verified)> {
        let images = ImageTable::open(self.relation, &self.image_column, &self.embedding_column)?;
        if let Some(dimensions) = model.dimensions {
            images.check_dimensions(dimensions as usize)?;
        }
        let model = images.claim_for(model)?;
        let time = errors::now()?;
        let verified = if self.refreshes { images.verified()? } else { Verified::default() };
        let total = images.count(&self.retry(&time), self.wanted(&verified))?;
        // With `refresh`, every row is looked at in any case.
        let missing_index = if self.refreshes { None } else { images.missing_index(total)? };
        Ok((Start { images, model, total, time, missing_index }, verified))
    }

    fn retry(&self, start: &str) -> Retry {
        match self.on_error {
            OnError::Record => Retry::Changed,
            OnError::Retry | OnError::Stop => Retry::Before(start.to_owned()),
        }
    }

    fn wanted<'v>(&self, verified: &'v Verified) -> Wanted<'v> {
        if self.refreshes { Wanted::MissingOrUnverified(verified) } else { Wanted::Missing }
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
    fn read_ahead(
        &self,
        start: &Start,
        known: &Known,
        stream: &mut EmbeddingStream,
        pass: &mut Pass,
    ) -> Result<()> {
        while !pass.has_read_all && stream.wants_more() {
            let (batch, read) =
                self.procedure.transaction(|| self.read(start, known, pass.after.as_deref()))?;
            pass.skipped += read.skipped;
            let Some(last) = read.last else {
                pass.has_read_all = true;
                return Ok(());
            };
            let before = pass.after.replace(last);
            if !batch.is_empty() {
                pass.submitted_after.push_back(before);
                stream.submit(batch)?;
            }
        }
        Ok(())
    }

    /// The next rows with their images.
    fn read(&self, start: &Start, known: &Known, after: Option<&[String]>) -> Result<(ImageBatch, ReadRows)> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let (retry, wanted) = (self.retry(&start.time), self.wanted(&known.verified));
        let read = self.images(start)?.read(after, &retry, wanted, self.batch_size, |row| {
            if known.done.contains(&row.id.name) {
                return Ok(ControlFlow::Continue(()));
            }
            bytes += row.image.size();
            let found = row.embedding.map_or(Found::None, Found::Unverified);
            batch.push((Target { id: row.id, found }, row.image));
            Ok(if bytes < EMBEDDED_BYTES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok((batch, read))
    }

    fn write(
        &self,
        start: &Start,
        batch: EmbeddedBatch,
        known: &mut Known,
        pass: &mut Pass,
        progress: &mut Progress,
    ) -> Result<()> {
        let (outcome, transaction) = self.procedure.transaction(|| {
            let images = self.images(start)?;
            images.claim_again_for(&start.model)?;
            let outcome = batch.write(&images, self.on_error)?;
            Ok((outcome, current_transaction()))
        })?;
        let Outcome { counts, changed, refused, cleared } = outcome;
        known.verified.add_own(transaction);
        known.has_refused |= counts.refused > 0;
        known.done.extend(refused.into_iter().chain(cleared));
        let after = pass.submitted_after.pop_front().flatten();
        if counts.changed > 0 {
            pass.retry_after.get_or_insert(after);
        }
        pass.changed.extend(changed);
        pass.counts.add(counts);
        progress.advance(counts.embedded + counts.right + counts.failed, counts.failed);
        Ok(())
    }
}
