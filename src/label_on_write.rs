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
use crate::pg::catalog::label_table::{LabelColumns, LabelTable, LabelTransitionRows, Labelling};
use crate::pg::catalog::provenance;
use crate::pg::catalog::transition_rows::TransitionTables;
use crate::pg::error::{Error, Result, SqlError};
use crate::pg::message::warn;
use crate::pg::regclass::RegClass;
use crate::pg::spi::Access;
use crate::pg::trigger::{NewRow, TriggerCall};
use crate::pg::version::SameVersion;

/// The trigger is declared wrongly. The HINT is a statement that declares it correctly.
#[derive(Debug, thiserror::Error)]
#[error("susx.label_on_write() {message}")]
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

/// Labels the rows that a statement has written without a label, or with other vectors.
#[pg_extern(sql = r#"
CREATE FUNCTION susx.label_on_write() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn label_on_write(_version: SameVersion, call: TriggerCall) -> Result<NewRow, ErrorReport> {
    label(&call.trigger()?)?;
    Ok(NewRow::NONE)
}

fn label(trigger: &PgTrigger) -> Result<()> {
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
    let (classifier, others) = match &arguments[..] {
        [classifier, others @ ..] if others.len() <= 5 => (classifier, others),
        _ => {
            return Err(misdeclared(
                "takes a classifier, and optionally the columns of labels, embeddings, likeness vectors, \
                 probabilities and known",
            )?);
        }
    };
    let named = |index: usize| others.get(index).filter(|name| !name.is_empty()).cloned();
    let named_likeness = named(2);
    let mut columns = LabelColumns {
        label: named(0).unwrap_or_else(|| "label".to_owned()),
        embedding: named(1).unwrap_or_else(|| "embedding".to_owned()),
        likeness: named_likeness.clone(),
        probability: named(3),
        known: named(4),
    };
    let table = LabelTable::open(relation, &columns)?;
    let classifier = catalog::named(classifier)?;
    let mut labelled = None;
    // Which column has the likeness vectors is found out before any row is read.
    let labeller = Labeller::get(classifier, None)?;
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
    let mut rows = LabelTransitionRows::open(&table, trigger, tables)?;
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
    let argument = |index: usize, usual: &str| match arguments.get(index) {
        Some(name) => pgrx::spi::quote_literal(name),
        None => format!("'{usual}'"),
    };
    Ok(WriteTriggerError {
        message: message.to_owned(),
        hint: format!(
            "CREATE TRIGGER label_{} AFTER {event} ON {} REFERENCING {tables} FOR EACH STATEMENT \
             EXECUTE FUNCTION susx.label_on_write({}, {}, {});",
            event.to_lowercase(),
            relation.quoted()?,
            argument(0, "classifier"),
            argument(1, "label"),
            argument(2, "embedding"),
        ),
    }
    .into())
}
