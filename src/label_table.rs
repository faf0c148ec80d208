//! `CALL susx.label_table(...)`: labels a table of images, and brings its labels up to date.
//!
//! Rows are read in the order of their keys, each batch in its own transaction. A row is labelled only if its label was
//! made by another state of the classifier, or from other vectors. What is committed stays: after an interruption, the
//! same call continues.

use std::time::Instant;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::batches::{RELABELLED_BYTES, RELABELLED_ROWS};
use crate::label_rows::{self, Counts};
use crate::labeller::Labeller;
use crate::limits;
use crate::pg::catalog::label_table::{KeyRange, LabelColumns, LabelTable, Labelling, Selection};
use crate::pg::catalog::{prevent_command_in_read_only, provenance};
use crate::pg::error::{Error, Result, SqlError};
use crate::pg::job::{self, Job};
use crate::pg::message::{note, warn};
use crate::pg::name::Name;
use crate::pg::procedure::Procedure;
use crate::pg::progress::{Command, Phase, Progress};
use crate::pg::regclass::RegClass;
use crate::pg::spi::Access;
use crate::pg::version::SameVersion;

/// How often a call goes through the table at most, to try rows again that others changed in the meantime, or after a
/// change of the classifier.
const MAX_PASSES: usize = 3;

/// Labels a table of images, with a COMMIT per batch.
#[pg_extern(sql = r#"
CREATE PROCEDURE susx.label_table(
    rel regclass,
    classifier regclass,
    label_column name DEFAULT 'label',
    probability_column name DEFAULT NULL,
    known_column name DEFAULT NULL,
    embedding_column name DEFAULT 'embedding',
    likeness_column name DEFAULT NULL,
    method text DEFAULT NULL,
    batch_size integer DEFAULT NULL,
    only_new boolean DEFAULT false,
    first_key text DEFAULT NULL,
    last_key text DEFAULT NULL
) LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
#[allow(clippy::too_many_arguments)]
fn label_table(
    _version: SameVersion,
    rel: Option<RegClass>,
    classifier: Option<RegClass>,
    label_column: Option<Name>,
    probability_column: Option<Name>,
    known_column: Option<Name>,
    embedding_column: Option<Name>,
    likeness_column: Option<Name>,
    method: Option<&str>,
    batch_size: Option<i32>,
    only_new: Option<bool>,
    first_key: Option<&str>,
    last_key: Option<&str>,
    call: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let relation = Error::required(rel, "rel")?;
    let classifier = Error::required(classifier, "classifier")?;
    let Name(label) = Error::required(label_column, "label_column")?;
    let Name(embedding) = Error::required(embedding_column, "embedding_column")?;
    let only_new = Error::required(only_new, "only_new")?;
    let batch_size = batch_size
        .map_or(Ok(RELABELLED_ROWS), |size| limits::count(size, "batch_size", limits::BATCH_SIZE))?;
    for (name, key) in [("first_key", first_key), ("last_key", last_key)] {
        limits::check_bytes(name, limits::TEXT_BYTES, key.map_or(0, str::len))?;
    }
    let range = KeyRange { first: first_key.map(str::to_owned), last: last_key.map(str::to_owned) };
    prevent_command_in_read_only(c"susx.label_table");
    let procedure = Procedure::enter(call, "susx.label_table")?;
    let name = |name: Option<Name>| name.map(|Name(name)| name);
    let call = LabelCall {
        procedure,
        relation,
        classifier,
        columns: LabelColumns {
            label,
            probability: name(probability_column),
            known: name(known_column),
            embedding,
            likeness: name(likeness_column),
        },
        method: method.map(str::to_owned),
        batch_size,
        selection: Selection { range, only_unlabelled: only_new },
    };
    Ok(call.label()?)
}

/// The table was changed or dropped during the call.
#[derive(Debug, thiserror::Error)]
#[error("relation \"{0}\" was changed or dropped while it was being labelled")]
struct TableChanged(String);

impl SqlError for TableChanged {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
    }

    fn hint(&self) -> Option<String> {
        Some("What was committed is kept: call susx.label_table again for the rest.".to_owned())
    }
}

/// A call and its arguments.
#[derive(Debug)]
struct LabelCall {
    procedure: Procedure,
    relation: RegClass,
    classifier: RegClass,
    /// As they were named in the call.
    columns: LabelColumns,
    method: Option<String>,
    batch_size: usize,
    selection: Selection,
}

/// What the last transaction worked with.
#[derive(Clone, Debug)]
struct Work {
    /// With the column of likeness vectors that the classifier needs.
    columns: LabelColumns,
    labelling: i32,
    state: [u8; 32],
}

/// The values of a row's key columns.
type Key = Vec<String>;

/// A batch that was labelled.
#[derive(Debug)]
struct Batch {
    work: Work,
    counts: Counts,
    /// The number of its rows.
    rows: u64,
    /// The key of its last row; `None` at the end of the table.
    last: Option<Key>,
}

/// One pass through the table.
#[derive(Debug, Default)]
struct Pass {
    counts: Counts,
    /// The key after which the first batch with a changed row begins: the next pass begins there.
    retry_after: Option<Option<Key>>,
    /// Whether the classifier was changed: the next pass begins at the first row.
    has_other_state: bool,
}

impl LabelCall {
    fn label(&self) -> Result<()> {
        let since = Instant::now();
        let mut progress = Progress::start(Command::LabelTable, self.relation);
        // Its end is that of the call.
        let _job = self.procedure.transaction(|| self.job())?.begin(&self.procedure)?;
        let (start, mut work, total) = self.procedure.transaction(|| self.start())?;
        progress.phase(Phase::Classifying, Some(total));
        let mut counts = Counts::default();
        let (mut after, mut is_inconsistent) = (None, false);
        for _ in 0..MAX_PASSES {
            let is_whole = after.is_none();
            let pass = self.pass(after.take(), &start, &mut work, &mut progress)?;
            // What is not done is counted once, in the last pass that has seen all of it.
            let Counts { corrected, unembedded, recorded, refused, .. } =
                if is_whole { pass.counts } else { counts };
            let contended = pass.counts.contended;
            counts.add(pass.counts);
            counts = Counts { corrected, unembedded, recorded, refused, contended, ..counts };
            is_inconsistent = pass.has_other_state;
            match pass.retry_after {
                _ if pass.has_other_state => {
                    progress.phase(Phase::Classifying, Some(total));
                }
                Some(retry) => after = retry,
                None => break,
            }
        }
        if self.selection.range.is_all() && !self.selection.only_unlabelled {
            self.procedure.transaction(|| {
                let table = self.table(&start, &work.columns)?;
                if table.has_row_security() {
                    Ok(())
                } else {
                    table.forget_gone(work.labelling, counts.recorded)
                }
            })?;
        }
        report(&start.name, counts, is_inconsistent, since);
        Ok(())
    }

    /// Checks the table. Calls for all rows take turns; those for ranges of keys run at the same time.
    fn job(&self) -> Result<Job> {
        let table = LabelTable::open(self.relation, &self.columns)?;
        let job = Job::new(job::Work::Labelling, self.relation, &self.columns.label, &table.parents()?)?;
        Ok(if self.selection.range.is_all() { job } else { job.of_a_part() })
    }

    /// Checks the arguments. Returns the table, what to work with, and the number of rows.
    fn start(&self) -> Result<(LabelTable, Work, u64)> {
        let table = LabelTable::open(self.relation, &self.columns)?;
        table.check_range(&self.selection.range)?;
        let labeller = Labeller::get(self.classifier, self.method.as_deref(), table.holds_tags())?;
        let (table, work) = self.work(&labeller)?;
        let total = table.count(&self.selection)?;
        Ok((table, work, total))
    }

    /// The table, and what to work with for this state of the classifier. An error if the vectors of the table are of
    /// another model.
    fn work(&self, labeller: &Labeller) -> Result<(LabelTable, Work)> {
        let (relation, classifier, settings) = (self.relation, self.classifier, labeller.settings());
        provenance::check_pool(relation, &self.columns.embedding, classifier, settings)?;
        let named = self.columns.likeness.as_deref();
        let likeness = match labeller.uses_likeness() || named.is_some() {
            true => provenance::table_likeness(relation, named, classifier, settings)?,
            false => None,
        };
        let columns = LabelColumns { likeness, ..self.columns.clone() };
        let table = LabelTable::open(relation, &columns)?;
        let state = labeller.state;
        let labelling =
            Labelling { classifier, method: self.method.clone(), state, columns: columns.clone() }
                .register(&table)?;
        Ok((table, Work { columns, labelling, state }))
    }

    /// The table as it is now: another transaction may have renamed it. An error if it was dropped, or has another key.
    fn table(&self, start: &LabelTable, columns: &LabelColumns) -> Result<LabelTable> {
        let changed = || TableChanged(start.name.clone()).into();
        match LabelTable::open(self.relation, columns) {
            Ok(table) if table.has_the_key_of(start) => Ok(table),
            Ok(_) => Err(changed()),
            Err(error) if error.is_undefined_table() => Err(changed()),
            Err(error) => Err(error),
        }
    }

    /// Labels all batches that follow a key.
    fn pass(
        &self,
        mut after: Option<Key>,
        start: &LabelTable,
        work: &mut Work,
        progress: &mut Progress,
    ) -> Result<Pass> {
        let mut pass = Pass::default();
        let is_whole = after.is_none();
        let state = work.state;
        let mut is_first = true;
        loop {
            let known = work.clone();
            let begin = after.clone();
            let batch = self.procedure.transaction(|| self.batch(begin.as_deref(), start, known))?;
            // A change before the first batch of a whole pass has left no row behind.
            pass.has_other_state |= batch.work.state != state && !(is_whole && is_first);
            is_first = false;
            *work = batch.work;
            pass.counts.add(batch.counts);
            progress.advance(batch.rows, batch.counts.failed);
            let Some(last) = batch.last else { return Ok(pass) };
            let begin = after.replace(last);
            if batch.counts.contended > 0 {
                pass.retry_after.get_or_insert(begin);
            }
        }
    }

    /// Labels the next rows by the classifier as it is now.
    fn batch(&self, after: Option<&[String]>, start: &LabelTable, mut work: Work) -> Result<Batch> {
        let mut table = self.table(start, &work.columns)?;
        let labeller = Labeller::get(self.classifier, self.method.as_deref(), table.holds_tags())?;
        if labeller.state != work.state {
            (_, work) = self.work(&labeller)?;
            table = self.table(start, &work.columns)?;
        }
        let rows = table.read(after, &self.selection, self.batch_size, RELABELLED_BYTES)?;
        let only_new = self.selection.only_unlabelled;
        let counts =
            label_rows::label(&table, work.labelling, &labeller, &rows, only_new, Access::Statement)?;
        let last = rows.last().map(|row| row.id.key.clone());
        Ok(Batch { work, counts, rows: rows.len() as u64, last })
    }
}

/// Reports what was done, and what was not.
fn report(name: &str, counts: Counts, is_inconsistent: bool, since: Instant) {
    let Counts {
        labelled,
        changed,
        rejected,
        failed,
        corrected,
        unembedded,
        contended,
        refused,
        recorded: _,
    } = counts;
    let seconds = since.elapsed().as_secs_f64();
    let mut parts = Vec::new();
    if labelled > 0 {
        parts.push(format!("labelled {labelled} rows in {seconds:.1} s, {changed} of them changed"));
    }
    let others = [
        (rejected, "rejected: they show none of the categories"),
        (corrected, "left unchanged: their label was not written by susx"),
        (unembedded, "without an embedding: see susx.embed_table"),
        (failed, "failed: see susx.errors"),
        (contended, "changed by other sessions: call again"),
        (refused, "skipped: a trigger or a policy of the table does not allow the update"),
    ];
    parts.extend(others.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")));
    if is_inconsistent {
        parts.push("the classifier was changed in the meantime: call again".to_owned());
    }
    if parts.is_empty() {
        parts.push("all labels are up to date".to_owned());
    }
    let text = format!("\"{name}\": {}", parts.join("; "));
    if failed > 0 { warn(text) } else { note(text) }
}
