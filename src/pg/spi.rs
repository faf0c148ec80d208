//! Queries that read with the running statement's snapshot.
//!
//! pgrx's own SPI client reads with a newer snapshot once the transaction has written something; then a
//! STABLE function would see rows that its statement does not.

use std::ffi::{CStr, CString};

use pgrx::datum::DatumWithOid;
use pgrx::{FromDatum, IntoDatum, PgMemoryContexts, PgTrigger, check_for_interrupts, pg_sys};

use super::error::{Error, Result};

/// Rows that a cursor brings at a time.
const FETCH: i64 = 256;

/// The columns of a query's result, known before its first row.
#[derive(Debug)]
pub struct Columns {
    descriptor: pg_sys::TupleDesc,
}

impl Columns {
    /// How many there are.
    pub fn count(&self) -> i32 {
        // SAFETY: the descriptor belongs to a portal that is open.
        unsafe { (*self.descriptor).natts }
    }

    /// The type of a column, counted from 1.
    pub fn type_oid(&self, column: i32) -> pg_sys::Oid {
        // SAFETY: as above; the OID is invalid for a column that does not exist.
        unsafe { pg_sys::SPI_gettypeid(self.descriptor, column) }
    }
}

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
        // checked against the column's, a domain counting as what it is made of.
        unsafe {
            let found = pg_sys::SPI_gettypeid(self.descriptor, column);
            if !T::is_compatible_with(found) && !T::is_compatible_with(pg_sys::getBaseType(found)) {
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

    /// Whether the value of a column is NULL.
    pub fn is_null(&self, column: i32) -> bool {
        self.datum(column).is_none()
    }

    /// Whether two columns of type bytea hold the same, or both NULL. A large value that was not changed
    /// is not read for that: both columns then point to the same place.
    pub fn has_same_bytes(&self, column: i32, other: i32) -> Result<bool> {
        let (one, two) = match (self.datum(column), self.datum(other)) {
            (Some(one), Some(two)) => (one, two),
            (one, two) => return Ok(one.is_none() && two.is_none()),
        };
        // SAFETY: both are values of variable length in a tuple that is still there.
        unsafe {
            let [one, two] = [one, two].map(|datum| datum.cast_mut_ptr::<pg_sys::varlena>());
            if pgrx::varatt_is_1b_e(one) && pgrx::varatt_is_1b_e(two) {
                let pointer = |it| std::slice::from_raw_parts(it as *const u8, pgrx::varsize_external(it));
                if pointer(one) == pointer(two) {
                    return Ok(true);
                }
            }
            if pg_sys::toast_raw_datum_size(one.into()) != pg_sys::toast_raw_datum_size(two.into()) {
                return Ok(false);
            }
        }
        Ok(self.get::<&[u8]>(column)? == self.get::<&[u8]>(other)?)
    }

    /// The value of a column as it lies in the tuple; `None` for NULL.
    fn datum(&self, column: i32) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: tuple and descriptor belong to the same result, which is still open.
        let datum = unsafe { pg_sys::SPI_getbinval(self.tuple, self.descriptor, column, &mut is_null) };
        (!is_null).then_some(datum)
    }

    /// The value of a column of any type as text, by the type's output function.
    pub fn text(&self, column: i32) -> Option<String> {
        // SAFETY: as above; the result is NULL or a palloc'd C string.
        unsafe {
            let text = pg_sys::SPI_getvalue(self.tuple, self.descriptor, column);
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    }
}

/// Ends the SPI connection that it stands for.
#[derive(Debug)]
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
pub fn read(sql: &str, args: &[DatumWithOid], each: impl FnMut(&Row) -> Result<bool>) -> Result<()> {
    read_checked(sql, args, |_| Ok(FETCH), each)
}

/// As [`read`], after `open` has seen the columns and said how many rows to bring at a time.
///
/// PostgreSQL refuses what is not a SELECT or the like, and what would write.
pub fn read_checked(
    sql: &str,
    args: &[DatumWithOid],
    open: impl FnOnce(&Columns) -> Result<i64>,
    mut each: impl FnMut(&Row) -> Result<bool>,
) -> Result<()> {
    let mut cursor = Cursor::open(Connection::open()?, sql, args, true)?;
    let fetch = open(&cursor.columns())?;
    while cursor.fetch(fetch, &mut each)? {}
    Ok(())
}

/// A query whose rows are brought as they are wanted.
///
/// It stands on a connection to SPI: those that are opened after it must be closed before it.
#[derive(Debug)]
pub struct Cursor {
    portal: pg_sys::Portal,
    /// What detoasting allocates is freed after every row: an image may be large.
    scratch: PgMemoryContexts,
    _connection: Connection,
}

impl Cursor {
    /// In a trigger: sees the tables of the rows before and after its statement, and in others what the
    /// statement has written.
    pub fn in_trigger(trigger: &PgTrigger, sql: &str) -> Result<Self> {
        let connection = Connection::open()?;
        let data = std::ptr::from_ref(trigger.trigger_data()).cast_mut();
        // SAFETY: PostgreSQL's own data of the running trigger, which the connection does not outlive.
        match unsafe { pg_sys::SPI_register_trigger_data(data) } {
            code if code >= 0 => Self::open(connection, sql, &[], false),
            code => Err(Error::Internal(format!("SPI_register_trigger_data returned {code}"))),
        }
    }

    /// With `is_read_only` it reads with the statement's snapshot, else with a new one.
    fn open(connection: Connection, sql: &str, args: &[DatumWithOid], is_read_only: bool) -> Result<Self> {
        let sql = CString::new(sql).map_err(|_| Error::Internal("a query holds a NUL".to_owned()))?;
        let mut types: Vec<pg_sys::Oid> = args.iter().map(DatumWithOid::oid).collect();
        let mut values: Vec<pg_sys::Datum> =
            args.iter().map(|arg| arg.datum().map_or(pg_sys::Datum::null(), |d| d.sans_lifetime())).collect();
        let nulls: Vec<std::ffi::c_char> =
            args.iter().map(|arg| if arg.datum().is_some() { b' ' } else { b'n' } as _).collect();

        // SAFETY: the arrays have one element per argument and live until the cursor is open, which copies
        // the arguments.
        let portal = unsafe {
            let plan = pg_sys::SPI_prepare(sql.as_ptr(), args.len() as i32, types.as_mut_ptr());
            if plan.is_null() {
                let code = pg_sys::SPI_result;
                return Err(Error::Internal(format!("SPI_prepare returned {code}")));
            }
            let statements = pg_sys::SPI_plan_get_plan_sources(plan).as_ref().map_or(0, |list| list.length);
            if statements != 1 {
                return Err(Error::Argument(format!("a query must be one statement, not {statements}")));
            }
            let (values, nulls) = (values.as_mut_ptr(), nulls.as_ptr());
            pg_sys::SPI_cursor_open(std::ptr::null(), plan, values, nulls, is_read_only)
        };
        Ok(Cursor { portal, scratch: PgMemoryContexts::new("susx rows"), _connection: connection })
    }

    fn columns(&self) -> Columns {
        // SAFETY: the portal is open.
        Columns { descriptor: unsafe { (*self.portal).tupDesc } }
    }

    /// Shows up to `count` more rows to `each`, until that returns false; whether there may be more.
    pub fn fetch(&mut self, count: i64, mut each: impl FnMut(&Row) -> Result<bool>) -> Result<bool> {
        check_for_interrupts!();
        // SAFETY: the portal is open, and its tuples are used before they are freed.
        unsafe {
            pg_sys::SPI_cursor_fetch(self.portal, true, count);
            let (table, count) = (pg_sys::SPI_tuptable, pg_sys::SPI_processed as usize);
            let Some(rows) = table.as_ref().filter(|_| count > 0) else { return Ok(false) };
            let mut wants_more = true;
            for i in 0..count {
                let row = Row { tuple: *rows.vals.add(i), descriptor: rows.tupdesc };
                wants_more = self.scratch.switch_to(|_| each(&row))?;
                self.scratch.reset();
                if !wants_more {
                    break;
                }
            }
            pg_sys::SPI_freetuptable(table);
            Ok(wants_more)
        }
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        // As with the connection.
        if !std::thread::panicking() {
            // SAFETY: the portal is open.
            unsafe { pg_sys::SPI_cursor_close(self.portal) };
        }
    }
}
