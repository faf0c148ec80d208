//! `CALL susx.embed_table(...)`: fills the NULL embeddings of a table of images.
//!
//! Rows are read in the order of their keys and written a batch at a time, each in a transaction of its
//! own, while the inference process works on the batches after it. Between the transactions, where the
//! time goes, the call holds no lock and no snapshot. What is committed stays, so that another call goes on
//! where one was interrupted.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::image_stream::{Answered, BATCH_BYTES, Counts, ImageStream, OnError, Target};
use crate::inference::client::{self, OwnModel};
use crate::limits;
use crate::pg::catalog::images::{Images, Retry};
use crate::pg::catalog::{errors, prevent_command_in_read_only};
use crate::pg::error::{Error, Result};
use crate::pg::image::Image;
use crate::pg::message::{note, warn};
use crate::pg::name::Name;
use crate::pg::procedure::Procedure;
use crate::pg::progress::{Command, Phase, Progress};
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;

/// Rows of a batch.
const BATCH: usize = 256;
/// So often the table is gone through, if some rows were changed meanwhile.
const PASSES: usize = 3;

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
        batch_size.map_or(Ok(BATCH), |size| limits::count(size, "batch_size", limits::BATCH_SIZE))?;
    let on_error = OnError::named(Error::required(on_error, "on_error")?, &OnError::ALL)?;
    prevent_command_in_read_only(c"susx.embed_table");
    let procedure = Procedure::enter(call, "susx.embed_table")?;
    let table = Table { procedure, relation, image_column, embedding_column, batch_size, on_error };
    Ok(table.embed(model)?)
}

/// What a call is to do.
#[derive(Debug)]
struct Table {
    procedure: Procedure,
    relation: RegClass,
    image_column: String,
    embedding_column: String,
    batch_size: usize,
    on_error: OnError,
}

/// What a call has found out at its beginning.
#[derive(Debug)]
struct Start {
    images: Images,
    model: OwnModel,
    total: u64,
    /// A timestamptz.
    time: String,
}

/// Rows with their images.
type Batch = Vec<(Target, Image)>;

/// Values of the key's columns.
type Key = Vec<String>;

/// Where a pass has come.
#[derive(Debug, Default)]
struct Pass {
    /// The key that the next batch follows.
    after: Option<Key>,
    /// The same of the batches on their way.
    began: VecDeque<Option<Key>>,
    has_read_all: bool,
    counts: Counts,
    /// Rows that failed before and are not tried again.
    passed_over: u64,
    /// The key that the first batch with a changed row follows.
    again: Option<Option<Key>>,
}

impl Table {
    fn embed(&self, model: Option<&str>) -> Result<()> {
        let mut progress = Progress::start(Command::EmbedTable, self.relation);
        let start = self.procedure.transaction(|| self.start(model))?;
        progress.phase(Phase::Embedding, Some(start.total));
        let mut stream = ImageStream::new(&start.model);
        let mut total = Counts::default();
        let mut passed_over = None;
        let mut after = None;
        for _ in 0..PASSES {
            let mut pass = Pass { after, ..Pass::default() };
            self.read_ahead(&start, &mut stream, &mut pass)?;
            while let Some(answered) = stream.next()? {
                // First, so that the inference process has its next work before this is written.
                self.read_ahead(&start, &mut stream, &mut pass)?;
                self.write(&start, answered, &mut pass, &mut progress)?;
            }
            total.embedded += pass.counts.embedded;
            total.failed += pass.counts.failed;
            total.changed = pass.counts.changed;
            // Later passes see again what the first one saw, and what it recorded itself.
            passed_over.get_or_insert(pass.passed_over);
            let Some(again) = pass.again.filter(|_| pass.counts.embedded + pass.counts.failed > 0) else {
                break;
            };
            after = again;
        }
        let passed_over = passed_over.filter(|_| self.on_error == OnError::Record).unwrap_or(0);
        report(&start.images.name, total, passed_over);
        Ok(())
    }

    fn start(&self, model: Option<&str>) -> Result<Start> {
        let images = Images::open(self.relation, &self.image_column, &self.embedding_column)?;
        let model = client::describe(model)?;
        if let Some(dimensions) = model.dimensions {
            images.check_dimensions(dimensions as usize)?;
        }
        let model = images.embedded_by(&model)?;
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

    /// The table as it is now, which may have got another name since.
    fn images(&self, start: &Start) -> Result<Images> {
        let changed = || Error::TableChanged(start.images.name.clone());
        match Images::open(self.relation, &self.image_column, &self.embedding_column) {
            Ok(images) if images.has_the_key_of(&start.images) => Ok(images),
            Ok(_) | Err(Error::NoRelation(_)) => Err(changed()),
            Err(error) => Err(error),
        }
    }

    /// Puts batches on their way, as many as there should be.
    fn read_ahead(&self, start: &Start, stream: &mut ImageStream, pass: &mut Pass) -> Result<()> {
        while !pass.has_read_all && stream.wants_more() {
            let (batch, passed_over) =
                self.procedure.transaction(|| self.read(start, pass.after.as_deref()))?;
            pass.passed_over += passed_over;
            let Some((last, _)) = batch.last() else {
                pass.has_read_all = true;
                return Ok(());
            };
            let last = last.id.key.clone();
            pass.began.push_back(pass.after.replace(last));
            stream.submit(batch)?;
        }
        Ok(())
    }

    /// The next rows with their images, and how many rows before them have failed earlier.
    fn read(&self, start: &Start, after: Option<&[String]>) -> Result<(Batch, u64)> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let passed_over =
            self.images(start)?.read(after, &self.retry(&start.time), self.batch_size, |id, image| {
                bytes += image.size();
                batch.push((Target { id, is_stale: false }, image));
                Ok(if bytes < BATCH_BYTES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
        Ok((batch, passed_over))
    }

    fn write(
        &self,
        start: &Start,
        answered: Answered,
        pass: &mut Pass,
        progress: &mut Progress,
    ) -> Result<()> {
        let counts = self.procedure.transaction(|| {
            let images = self.images(start)?;
            images.are_embedded_by(&start.model)?;
            answered.write(&images, self.on_error)
        })?;
        let began = pass.began.pop_front().flatten();
        if counts.changed > 0 {
            pass.again.get_or_insert(began);
        }
        pass.counts.add(counts);
        progress.advance(counts.embedded + counts.failed, counts.failed);
        Ok(())
    }
}

/// Says what is left without an embedding, if anything is.
fn report(name: &str, total: Counts, passed_over: u64) {
    let Counts { embedded, failed, changed } = total;
    if failed > 0 {
        let tried = embedded + failed;
        warn(format!("{failed} of {tried} images of \"{name}\" could not be embedded: see susx.errors"));
    }
    if passed_over > 0 {
        note(format!(
            "{passed_over} images of \"{name}\" failed in earlier calls and were not tried again: \
             on_error => 'retry' does that"
        ));
    }
    if changed > 0 {
        note(format!("{changed} rows of \"{name}\" were changed by others meanwhile: call again for them"));
    }
}
