//! `susx.label_on_write(...)`: the trigger of a table of images that labels the rows a statement has written.
//!
//! It is fired once per statement and labels all its rows together. Its own UPDATE fires the trigger again, which then
//! finds nothing to do: the rows have a label, and the vectors that it was made from.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::batches::{RELABELLED_BYTES, RELABELLED_ROWS};
use crate::label_rows::{self, Counts};
use crate::labeller::Labeller;
use crate::pg::catalog::classifier as catalog;
use crate::pg::catalog::label_table::{
    LabelColumns, LabelTable, LabelTransitionRows, Labelling, may_have_outdated,
};
use crate::pg::catalog::provenance;
use crate::pg::error::Result;
use crate::pg::message::warn;
use crate::pg::spi::Access;
use crate::pg::trigger::{NewRow, TriggerCall};
use crate::pg::version::SameVersion;
use crate::write_trigger::{Usage, WriteTrigger};

const USAGE: Usage =
    Usage { function: "label_on_write", verb: "label", arguments: &["classifier", "label", "embedding"] };

/// Labels the rows that a statement has written without a label, or with other vectors.
#[pg_extern(sql = r#"
CREATE FUNCTION susx.label_on_write() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn label_on_write(_version: SameVersion, call: TriggerCall) -> Result<NewRow, ErrorReport> {
    label(&call.trigger()?)?;
    Ok(NewRow::NONE)
}

fn label(trigger: &PgTrigger) -> Result<()> {
    let write = WriteTrigger::open(trigger, &USAGE)?;
    let relation = write.relation;
    let classifier = match &write.arguments[..] {
        [classifier, others @ ..] if others.len() <= 5 => classifier,
        _ => {
            return Err(write.misdeclared(
                "takes a classifier, and optionally the columns of labels, embeddings, likeness vectors, \
                 probabilities and known",
            )?);
        }
    };
    let named = |index: usize| write.argument(index).map(str::to_owned);
    let named_likeness = named(3);
    let mut columns = LabelColumns {
        label: named(1).unwrap_or_else(|| "label".to_owned()),
        embedding: named(2).unwrap_or_else(|| "embedding".to_owned()),
        likeness: named_likeness.clone(),
        probability: named(4),
        known: named(5),
    };
    let table = LabelTable::open(relation, &columns)?;
    // The classifier is looked up, and fitted, only for rows that may need a label.
    if !may_have_outdated(&table, trigger, write.tables, named_likeness.is_some())? {
        return Ok(());
    }
    let classifier = catalog::named(classifier)?;
    let mut labelled = None;
    // Which column has the likeness vectors is found out before any row is read.
    let labeller = Labeller::get(classifier, None, table.holds_tags())?;
    let table = match labeller.uses_likeness() || named_likeness.is_some() {
        true => {
            columns.likeness = provenance::table_likeness(
                relation,
                named_likeness.as_deref(),
                classifier,
                labeller.settings(),
            )?;
            LabelTable::open(relation, &columns)?
        }
        false => table,
    };
    let mut rows = LabelTransitionRows::open(&table, trigger, write.tables)?;
    let mut counts = Counts::default();
    loop {
        let read = rows.next(RELABELLED_ROWS, RELABELLED_BYTES)?;
        if read.is_empty() {
            break;
        }
        let labelling = match labelled {
            Some(labelling) => labelling,
            None => {
                provenance::check_pool(relation, &columns.embedding, classifier, labeller.settings())?;
                let labelling =
                    Labelling { classifier, method: None, state: labeller.state, columns: columns.clone() };
                *labelled.insert(labelling.register_classifier(&table)?)
            }
        };
        counts.add(label_rows::label(&table, labelling, &labeller, &read, false, Access::Current)?);
    }
    if counts.failed > 0 {
        warn(format!("{} rows of \"{}\" could not be labelled: see susx.errors", counts.failed, table.name));
    }
    Ok(())
}
