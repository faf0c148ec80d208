//! `susx.check()`: one row for each thing that susx needs, and what to do where it is missing.
//!
//! A check is for the moment when nothing else works. So nothing here raises an error: what fails becomes a row. It
//! starts the inference process, if that is not running, and loads no model.

mod caller;
mod database;
mod files;
mod models;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::pg::error::{Error, Result};

/// One row.
#[derive(Debug)]
pub(crate) struct Item {
    name: String,
    /// `None` if it cannot be told.
    ok: Option<bool>,
    detail: String,
    hint: Option<String>,
}

impl Item {
    fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Item { name: name.into(), ok: Some(true), detail: detail.into(), hint: None }
    }

    fn bad(name: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Item { name: name.into(), ok: Some(false), detail: detail.into(), hint: Some(hint.into()) }
    }

    fn failed(name: impl Into<String>, error: &Error) -> Self {
        let hint = error.hint().map(str::to_owned);
        Item { name: name.into(), ok: Some(false), detail: error.to_string(), hint }
    }

    /// What was found, or the error that was raised instead.
    fn of(name: &'static str, found: Result<Item>) -> Self {
        found.unwrap_or_else(|error| Item::failed(name, &error))
    }
}

/// One row for each requirement of susx: whether it is met (NULL if that is unknown), what was found, and what to do.
/// Raises no error. It also works if the database has another version of the extension.
#[pg_extern(volatile, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn check() -> Result<
    TableIterator<
        'static,
        (name!(item, String), name!(ok, Option<bool>), name!(detail, String), name!(hint, Option<String>)),
    >,
    ErrorReport,
> {
    let mut items = database::items();
    items.push(caller::item());
    items.extend(files::items());
    items.extend(models::items());
    let row = |Item { name, ok, detail, hint }: Item| (name, ok, detail, hint);
    Ok(TableIterator::new(items.into_iter().map(row)))
}
