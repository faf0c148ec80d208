//! Queries that read with the running statement's snapshot.
//!
//! pgrx's own SPI client reads with a newer snapshot once the transaction has written something; then a
//! STABLE function would see rows that its statement does not.

use std::ffi::CString;

use pgrx::datum::DatumWithOid;
use pgrx::{FromDatum, IntoDatum, PgMemoryContexts, check_for_interrupts, pg_sys};

use super::error::{Error, Result};

/// Rows that a cursor brings at a time.
const FETCH: i64 = 256;

/// One row of a query's result, valid while it is looked at.
#[derive(Debug)]
pub struct Row {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
}

impl Row {
    /// The value of a column, counted from 1.
    pub fn get<T: FromDatum + IntoDatum>(&self, column: i32) -> Result<Option<T>> {
        // SAFETY: tuple and descriptor belong to the same result, which is still open; the type is
        // checked against the column's.
        unsafe {
            let found = pg_sys::SPI_gettypeid(self.descriptor, column);
            if !T::is_compatible_with(found) {
                return Err(Error::Internal(format!(
                    "column {column} has type OID {}, not {}",
                    found.to_u32(),
                    T::type_oid().to_u32()
                )));
            }
            let mut is_null = false;
            let datum = pg_sys::SPI_getbinval(self.tuple, self.descriptor, column, &mut is_null);
            Ok(T::from_datum(datum, is_null))
        }
    }

    /// As [`get`](Self::get), for a column that is declared NOT NULL.
    pub fn required<T: FromDatum + IntoDatum>(&self, column: i32) -> Result<T> {
        self.get(column)?.ok_or_else(|| Error::Internal(format!("column {column} is NULL")))
    }
}

/// Ends the SPI connection that it stands for.
struct Connection;

impl Connection {
    fn open() -> Result<Self> {
        // SAFETY: balanced by SPI_finish in drop; after an ERROR PostgreSQL itself cleans up.
        match unsafe { pg_sys::SPI_connect() } {
            code if code == pg_sys::SPI_OK_CONNECT as i32 => Ok(Connection),
            code => Err(Error::Internal(format!("SPI_connect returned {code}"))),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A Rust unwinding means that an ERROR is on its way, and that SPI is not ours any more.
        if !std::thread::panicking() {
            // SAFETY: the connection was opened by `open`.
            unsafe { pg_sys::SPI_finish() };
        }
    }
}

/// Runs a query and shows its rows to `each`, until that returns false.
pub fn read(sql: &str, args: &[DatumWithOid], mut each: impl FnMut(&Row) -> Result<bool>) -> Result<()> {
    let sql = CString::new(sql).map_err(|_| Error::Internal("a query holds a NUL".to_owned()))?;
    let mut types: Vec<pg_sys::Oid> = args.iter().map(DatumWithOid::oid).collect();
    let mut values: Vec<pg_sys::Datum> =
        args.iter().map(|arg| arg.datum().map_or(pg_sys::Datum::null(), |d| d.sans_lifetime())).collect();
    let nulls: Vec<std::ffi::c_char> =
        args.iter().map(|arg| if arg.datum().is_some() { b' ' } else { b'n' } as _).collect();

    let _connection = Connection::open()?;
    // SAFETY: the arrays have one element per argument and live until the cursor is open, which copies
    // the arguments. The portal and its tuples are used before they are freed.
    unsafe {
        let plan = pg_sys::SPI_prepare(sql.as_ptr(), args.len() as i32, types.as_mut_ptr());
        if plan.is_null() {
            let code = pg_sys::SPI_result;
            return Err(Error::Internal(format!("SPI_prepare returned {code}")));
        }
        let portal =
            pg_sys::SPI_cursor_open(std::ptr::null(), plan, values.as_mut_ptr(), nulls.as_ptr(), true);
        // What detoasting allocates is freed after every fetch.
        let mut scratch = PgMemoryContexts::new("susx rows");
        loop {
            check_for_interrupts!();
            pg_sys::SPI_cursor_fetch(portal, true, FETCH);
            let (table, count) = (pg_sys::SPI_tuptable, pg_sys::SPI_processed as usize);
            let Some(rows) = table.as_ref().filter(|_| count > 0) else { break };
            let wants_more = scratch.switch_to(|_| {
                for i in 0..count {
                    let row = Row { tuple: *rows.vals.add(i), descriptor: rows.tupdesc };
                    if !each(&row)? {
                        return Ok::<bool, Error>(false);
                    }
                }
                Ok(true)
            })?;
            pg_sys::SPI_freetuptable(table);
            scratch.reset();
            if !wants_more {
                break;
            }
        }
        pg_sys::SPI_cursor_close(portal);
    }
    Ok(())
}
