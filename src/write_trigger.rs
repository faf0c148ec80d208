//! What `susx.embed_on_write(...)` and `susx.label_on_write(...)` have in common: a trigger that is fired once per INSERT
//! or UPDATE, after the statement, with the rows that it has written.

use pgrx::prelude::*;

use crate::pg::catalog::transition_rows::TransitionTables;
use crate::pg::error::{Error, Result, SqlError};
use crate::pg::regclass::RegClass;

/// How such a trigger is declared.
#[derive(Debug)]
pub struct Usage {
    /// The name of the function.
    pub function: &'static str,
    /// What a trigger's name begins with.
    pub verb: &'static str,
    /// Its arguments, as they are usual.
    pub arguments: &'static [&'static str],
}

/// A trigger that is being fired.
#[derive(Debug)]
pub struct WriteTrigger<'t> {
    pub relation: RegClass,
    pub arguments: Vec<String>,
    pub tables: TransitionTables<'t>,
    usage: &'static Usage,
    is_update: bool,
}

/// The trigger is declared wrongly. The HINT is a statement that declares it correctly.
#[derive(Debug, thiserror::Error)]
#[error("susx.{function}() {message}")]
struct WriteTriggerError {
    function: &'static str,
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

impl<'t> WriteTrigger<'t> {
    /// Checks how the trigger is declared, except for its arguments.
    pub fn open(trigger: &'t PgTrigger, usage: &'static Usage) -> Result<Self> {
        let relation = RegClass(trigger.relid().map_err(Error::internal)?);
        let arguments = trigger.extra_args().map_err(Error::internal)?;
        let event = trigger.event();
        let is_update = event.fired_by_update();
        let misdeclared = |message| declaration_error(usage, relation, is_update, &arguments, message);
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
        Ok(WriteTrigger { relation, arguments, tables, usage, is_update })
    }

    /// An argument; `None` if it is left out or empty.
    pub fn argument(&self, index: usize) -> Option<&str> {
        self.arguments.get(index).map(String::as_str).filter(|argument| !argument.is_empty())
    }

    /// The error that the trigger is declared wrongly.
    pub fn misdeclared(&self, message: &str) -> Result<Error> {
        declaration_error(self.usage, self.relation, self.is_update, &self.arguments, message)
    }
}

fn declaration_error(
    usage: &Usage,
    relation: RegClass,
    is_update: bool,
    arguments: &[String],
    message: &str,
) -> Result<Error> {
    let Usage { function, verb, arguments: usual } = usage;
    let (event, tables) = match is_update {
        true => ("UPDATE", "OLD TABLE AS old NEW TABLE AS new"),
        false => ("INSERT", "NEW TABLE AS new"),
    };
    let argument = |(index, usual): (usize, &&str)| {
        pgrx::spi::quote_literal(arguments.get(index).map_or(*usual, String::as_str))
    };
    let arguments: Vec<String> = usual.iter().enumerate().map(argument).collect();
    Ok(WriteTriggerError {
        function,
        message: message.to_owned(),
        hint: format!(
            "CREATE TRIGGER {verb}_{} AFTER {event} ON {} REFERENCING {tables} FOR EACH STATEMENT \
             EXECUTE FUNCTION susx.{function}({});",
            event.to_lowercase(),
            relation.quoted()?,
            arguments.join(", ")
        ),
    }
    .into())
}
