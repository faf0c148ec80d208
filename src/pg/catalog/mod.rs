//! What susx reads and writes in the database: the only SQL in this library.
//!
//! Everything runs as the caller, with the caller's rights. Names are qualified and operators too, so
//! that nothing depends on the caller's search_path.

pub mod classifier;
mod column;
pub mod errors;
pub mod generated;
pub mod images;
mod key;
pub mod keyed;
pub mod labelled;
pub mod made_by;
mod own_tables;
pub mod pool;
pub mod version;
pub mod written;

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::{FromDatum, IntoDatum};

use super::error::{Error, Result};
use super::spi;

/// An argument of a query.
fn arg<'a, T: IntoDatum>(value: T) -> DatumWithOid<'a> {
    let oid = T::type_oid();
    // SAFETY: the OID is the type's own.
    unsafe { DatumWithOid::new(value, oid) }
}

thread_local! {
    static VECTOR_TYPE: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::Oid::INVALID) };
}

/// Forgets what was looked up in pg_type.
pub fn forget_types() {
    VECTOR_TYPE.set(pg_sys::Oid::INVALID);
}

/// The OID of pgvector's type; invalid if the extension is not there.
pub fn vector_type() -> pg_sys::Oid {
    if VECTOR_TYPE.get() == pg_sys::Oid::INVALID {
        let sql = "SELECT t.oid FROM pg_catalog.pg_type t JOIN pg_catalog.pg_extension e \
                   ON t.typnamespace OPERATOR(pg_catalog.=) e.extnamespace \
                   WHERE e.extname OPERATOR(pg_catalog.=) 'vector' \
                   AND t.typname OPERATOR(pg_catalog.=) 'vector'";
        if let Ok(Some(found)) = first(sql, &[]) {
            VECTOR_TYPE.set(found);
        }
    }
    VECTOR_TYPE.get()
}

/// A type as SQL names it.
pub fn type_name(type_oid: pg_sys::Oid) -> String {
    // SAFETY: returns a palloc'd C string for any OID.
    unsafe { CStr::from_ptr(pg_sys::format_type_be(type_oid)) }.to_string_lossy().into_owned()
}

/// pgvector's schema, quoted.
fn vector_schema() -> Result<String> {
    let sql = "SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension e \
               JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace \
               WHERE e.extname OPERATOR(pg_catalog.=) 'vector'";
    first(sql, &[])?.ok_or_else(|| Error::Internal("the extension vector is not installed".to_owned()))
}

/// The first column of the first row.
fn first<T: FromDatum + IntoDatum>(sql: &str, args: &[DatumWithOid]) -> Result<Option<T>> {
    let mut found = None;
    spi::read(sql, args, |row| {
        found = row.get(1)?;
        Ok(false)
    })?;
    Ok(found)
}

/// Runs `call` with other values of some settings, which are the caller's again after it.
fn with_settings<T>(settings: &[(&CStr, &CStr)], call: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: the strings are C strings. The level is closed below; after an ERROR the transaction's
    // abort does it.
    let level = unsafe {
        let level = pg_sys::NewGUCNestLevel();
        for (name, value) in settings {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
        level
    };
    let result = call();
    // SAFETY: closes the level opened above. As if aborted: a commit would keep the values.
    unsafe { pg_sys::AtEOXact_GUC(false, level) };
    result
}

/// What the errors of [`prevent_in_read_only`] and [`write`] call a change.
const CHANGE: &CStr = c"a function that changes a classifier";

/// An error in a read-only transaction, before any work is done in vain.
pub fn prevent_in_read_only() {
    prevent_command_in_read_only(CHANGE);
}

/// The same for a command of that name.
pub fn prevent_command_in_read_only(command: &CStr) {
    // SAFETY: both raise an ERROR with the C string in it, or do nothing.
    unsafe {
        pg_sys::PreventCommandDuringRecovery(command.as_ptr());
        pg_sys::PreventCommandIfReadOnly(command.as_ptr());
    }
}

/// Runs a statement that writes; returns the rows that it touched.
fn write(sql: &str, args: &[DatumWithOid]) -> Result<usize> {
    // pgrx asks for a transaction id first, which a standby refuses as an internal error.
    // SAFETY: raises an ERROR with the C string in it, or does nothing.
    unsafe { pg_sys::PreventCommandDuringRecovery(CHANGE.as_ptr()) };
    Spi::connect_mut(|client| client.update(sql, None, args).map(|table| table.len())).map_err(Error::from)
}
