//! Queries that read with the running statement's snapshot.
//!
//! pgrx's own SPI client takes a newer snapshot once the transaction has written something: a STABLE function would
//! then see rows that its statement does not see.

mod cursor;
pub mod operators;
mod portal;
mod row;
mod trigger_cursor;
mod user_query;

use pgrx::datum::DatumWithOid;
use pgrx::{FromDatum, IntoDatum, PgMemoryContexts, pg_sys};

use super::error::{Error, Result};
use crate::batches::FETCHED_ROWS;
pub use cursor::Cursor;
use portal::Portal;
pub use portal::{Access, Columns};
pub use row::Row;
pub use trigger_cursor::TriggerCursor;

/// An open SPI connection, closed on drop.
#[derive(Debug)]
struct Connection;

impl Connection {
    fn open() -> Result<Self> {
        // SAFETY: balanced by SPI_finish in drop; after an ERROR PostgreSQL itself cleans up.
        match unsafe { pg_sys::SPI_connect() } {
            code if code == pg_sys::SPI_OK_CONNECT as i32 => Ok(Connection),
            code => Err(Error::internal(format_args!("SPI_connect returned {code}"))),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // While Rust unwinds, an ERROR is under way and PostgreSQL closes the connection.
        if !std::thread::panicking() {
            // SAFETY: the connection was opened by `open`.
            unsafe { pg_sys::SPI_finish() };
        }
    }
}

/// An argument of a query, of the type that `T` stands for.
pub fn arg<'a, T: IntoDatum>(value: T) -> DatumWithOid<'a> {
    let oid = T::type_oid();
    // SAFETY: the OID is the type's own.
    unsafe { DatumWithOid::new(value, oid) }
}

/// Runs `call` and frees the arguments that it makes for its statement. A function that runs many statements would
/// otherwise keep the arguments of all until it returns.
pub fn freeing_arguments<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: what leaves the context was allocated by Rust.
    unsafe { PgMemoryContexts::new("susx arguments").switch_to(|_| call()) }
}

/// The first column of a query's first row; `None` if there is no row, or if the value is NULL.
pub fn first<T: FromDatum + IntoDatum>(sql: &str, args: &[DatumWithOid]) -> Result<Option<T>> {
    let mut found = None;
    read(sql, args, |row| {
        found = row.get(1)?;
        Ok(false)
    })?;
    Ok(found)
}

/// Runs a query and passes its rows to `each` until that returns false.
pub fn read(sql: &str, args: &[DatumWithOid], each: impl FnMut(&Row) -> Result<bool>) -> Result<()> {
    read_in(Access::Statement, sql, args, each)
}

/// Like [`read`], with a choice of which rows the query sees.
pub fn read_in(
    access: Access,
    sql: &str,
    args: &[DatumWithOid],
    each: impl FnMut(&Row) -> Result<bool>,
) -> Result<()> {
    read_with(access, sql, args, |_| Ok(FETCHED_ROWS), each)
}

/// Like [`read`], but passes up to `fetch` rows to `each` at once.
pub fn read_batches(
    sql: &str,
    args: &[DatumWithOid],
    fetch: i64,
    mut each: impl FnMut(&[Row]) -> Result<bool>,
) -> Result<()> {
    let _connection = Connection::open()?;
    let portal = Portal::open(sql, args, Access::Statement)?;
    while portal.fetch_batch(fetch, |rows| Ok(!rows.is_empty() && each(rows)?))? {}
    portal.close();
    Ok(())
}

/// Runs a query that the caller of susx wrote. `example` is one of the kind that is expected. `open` sees its columns first,
/// and returns how many rows to fetch at a time.
pub fn read_user_query(
    sql: &str,
    example: &str,
    open: impl FnOnce(&Columns) -> Result<i64>,
    each: impl FnMut(&Row) -> Result<bool>,
) -> Result<()> {
    let _connection = Connection::open()?;
    let start = || Portal::open(sql, &[], Access::UserQuery);
    pass(user_query::explained(sql, example, start)?, open, each)
}

fn read_with(
    access: Access,
    sql: &str,
    args: &[DatumWithOid],
    open: impl FnOnce(&Columns) -> Result<i64>,
    each: impl FnMut(&Row) -> Result<bool>,
) -> Result<()> {
    let _connection = Connection::open()?;
    pass(Portal::open(sql, args, access)?, open, each)
}

/// Passes the rows of a query that has started. The caller is connected to SPI.
fn pass(
    portal: Portal,
    open: impl FnOnce(&Columns) -> Result<i64>,
    mut each: impl FnMut(&Row) -> Result<bool>,
) -> Result<()> {
    let fetch = open(&portal.columns())?;
    while portal.fetch_until(fetch, &mut each)? {}
    portal.close();
    Ok(())
}
