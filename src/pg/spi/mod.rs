//! Queries that read with the running statement's snapshot.
//!
//! pgrx's own SPI client reads with a newer snapshot once the transaction has written something; then a
//! STABLE function would see rows that its statement does not.

mod row;

use std::ffi::{CStr, CString};

use pgrx::datum::DatumWithOid;
use pgrx::{PgMemoryContexts, PgTrigger, check_for_interrupts, pg_sys};

use super::error::{Error, Result};
pub use row::Row;

/// Rows that a cursor brings at a time.
const FETCH: i64 = 256;

/// The columns of a query's result, known before its first row.
#[derive(Debug)]
pub struct Columns {
    descriptor: pg_sys::TupleDesc,
    expected_rows: Option<u64>,
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

    /// How many rows the planner expects.
    pub fn expected_rows(&self) -> Option<u64> {
        self.expected_rows
    }
}

/// Ends the SPI connection that it stands for.
#[derive(Debug)]
pub(super) struct Connection;

impl Connection {
    pub fn open() -> Result<Self> {
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
    read_in(Access::Statement, sql, args, each)
}

/// As [`read`], of what is to be seen.
pub fn read_in(
    access: Access,
    sql: &str,
    args: &[DatumWithOid],
    each: impl FnMut(&Row) -> Result<bool>,
) -> Result<()> {
    read_with(access, sql, args, |_| Ok(FETCH), each)
}

/// As [`read`], but shows `fetch` rows at a time, all of them together.
pub fn read_together(
    sql: &str,
    args: &[DatumWithOid],
    fetch: i64,
    mut each: impl FnMut(&[Row]) -> Result<bool>,
) -> Result<()> {
    let _connection = Connection::open()?;
    let portal = Portal::open(sql, args, Access::Statement)?;
    while portal.fetch_together(fetch, |rows| Ok(!rows.is_empty() && each(rows)?))? {}
    portal.close();
    Ok(())
}

/// Runs a query that the caller wrote, after `open` has seen the columns and said how many rows to bring at
/// a time.
pub fn read_callers(
    sql: &str,
    open: impl FnOnce(&Columns) -> Result<i64>,
    each: impl FnMut(&Row) -> Result<bool>,
) -> Result<()> {
    read_with(Access::Callers, sql, &[], open, each)
}

fn read_with(
    access: Access,
    sql: &str,
    args: &[DatumWithOid],
    open: impl FnOnce(&Columns) -> Result<i64>,
    mut each: impl FnMut(&Row) -> Result<bool>,
) -> Result<()> {
    let _connection = Connection::open()?;
    let portal = Portal::open(sql, args, access)?;
    let fetch = open(&portal.columns())?;
    loop {
        let mut wants_more = true;
        let shown = portal.fetch(fetch, |row| {
            wants_more = each(row)?;
            Ok(wants_more)
        })?;
        if shown == 0 || !wants_more {
            break;
        }
    }
    portal.close();
    Ok(())
}

/// What a query sees, and what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// What the running statement sees. PostgreSQL refuses what is not a SELECT or the like, and what would
    /// write.
    Statement,
    /// The same for a query that the caller wrote: nor may the functions that it calls write.
    Callers,
    /// Also what the running statement has written.
    Current,
}

/// A query that is running. PostgreSQL closes it when the transaction ends or fails.
#[derive(Debug)]
pub(super) struct Portal {
    portal: pg_sys::Portal,
    access: Access,
}

impl Portal {
    /// Starts a query. The caller is connected to SPI.
    pub fn open(sql: &str, args: &[DatumWithOid], access: Access) -> Result<Self> {
        let sql = CString::new(sql).map_err(|_| Error::Internal("a query holds a NUL".to_owned()))?;
        let mut types: Vec<pg_sys::Oid> = args.iter().map(DatumWithOid::oid).collect();
        let mut values: Vec<pg_sys::Datum> =
            args.iter().map(|arg| arg.datum().map_or(pg_sys::Datum::null(), |d| d.sans_lifetime())).collect();
        let nulls: Vec<std::ffi::c_char> =
            args.iter().map(|arg| if arg.datum().is_some() { b' ' } else { b'n' } as _).collect();
        // SAFETY: the arrays have one element per argument and live until the cursor is open, which
        // copies the arguments.
        unsafe {
            let plan = pg_sys::SPI_prepare(sql.as_ptr(), args.len() as i32, types.as_mut_ptr());
            if plan.is_null() {
                let code = pg_sys::SPI_result;
                return Err(Error::Internal(format!("SPI_prepare returned {code}")));
            }
            let statements = pg_sys::SPI_plan_get_plan_sources(plan).as_ref().map_or(0, |list| list.length);
            if statements != 1 {
                return Err(Error::Argument(format!("a query must be one statement, not {statements}")));
            }
            let (name, values) = (std::ptr::null(), values.as_mut_ptr());
            let is_read_only = access != Access::Current;
            let _changes = Unchanging::of(access);
            let portal = pg_sys::SPI_cursor_open(name, plan, values, nulls.as_ptr(), is_read_only);
            Ok(Portal { portal, access })
        }
    }

    /// The open portal of that name, if there is one, which was opened with that access.
    pub fn find(name: &CStr, access: Access) -> Option<Self> {
        // SAFETY: a C string; the result is NULL or an open portal.
        let portal = unsafe { pg_sys::SPI_cursor_find(name.as_ptr()) };
        (!portal.is_null()).then_some(Portal { portal, access })
    }

    /// The name, which no other open portal has.
    pub fn name(&self) -> CString {
        // SAFETY: the portal is open, and its name is a C string.
        unsafe { CStr::from_ptr((*self.portal).name).to_owned() }
    }

    pub fn columns(&self) -> Columns {
        // SAFETY: the portal is open.
        unsafe { Columns { descriptor: (*self.portal).tupDesc, expected_rows: expected_rows(self.portal) } }
    }

    /// Shows the next rows to `each`, up to `most` of them or until it returns false; how many it has seen.
    /// The caller is connected to SPI.
    pub fn fetch(&self, most: i64, mut each: impl FnMut(&Row) -> Result<bool>) -> Result<usize> {
        // What detoasting allocates is freed after every row: an image may be large.
        let mut scratch = PgMemoryContexts::new("susx rows");
        self.fetched(most, |rows| {
            for (seen, row) in (1..).zip(rows) {
                check_for_interrupts!();
                // SAFETY: what leaves the context is allocated by Rust.
                let wants_more = unsafe { scratch.switch_to(|_| each(row))? };
                // SAFETY: nothing of it is used any more.
                unsafe { scratch.reset() };
                if !wants_more {
                    return Ok(seen);
                }
            }
            Ok(rows.len())
        })
    }

    /// Shows the next rows to `each` together, up to `most` of them. The caller is connected to SPI.
    pub fn fetch_together<T>(&self, most: i64, each: impl FnOnce(&[Row]) -> Result<T>) -> Result<T> {
        let mut scratch = PgMemoryContexts::new("susx rows");
        // SAFETY: what leaves the context is allocated by Rust.
        self.fetched(most, |rows| unsafe { scratch.switch_to(|_| each(rows)) })
    }

    /// What `look` makes of the next rows, which are freed after it.
    fn fetched<T>(&self, most: i64, look: impl FnOnce(&[Row]) -> Result<T>) -> Result<T> {
        check_for_interrupts!();
        // SAFETY: the portal is open, and its tuples are used before they are freed. Other queries may run meanwhile,
        // on connections of their own.
        unsafe {
            {
                let _changes = Unchanging::of(self.access);
                pg_sys::SPI_cursor_fetch(self.portal, true, most);
            }
            let (table, count) = (pg_sys::SPI_tuptable, pg_sys::SPI_processed as usize);
            let Some(found) = table.as_ref() else { return look(&[]) };
            let row = |place| Row::new(*found.vals.add(place), found.tupdesc);
            let rows: Vec<Row> = (0..count).map(row).collect();
            let result = look(&rows)?;
            pg_sys::SPI_freetuptable(table);
            Ok(result)
        }
    }

    pub fn close(self) {
        // SAFETY: the portal is open, and not running.
        unsafe { pg_sys::SPI_cursor_close(self.portal) };
    }
}

/// While it lives the transaction is read-only, and settings that are changed are the old ones again after
/// it: for what the caller wrote calls functions, and those may write where the query itself may not.
#[derive(Debug)]
struct Unchanging {
    was_read_only: bool,
    level: std::ffi::c_int,
}

impl Unchanging {
    /// For queries of the caller's; nothing for others.
    fn of(access: Access) -> Option<Self> {
        // SAFETY: a variable of this process, which PostgreSQL itself sets back when a (sub)transaction is
        // aborted; the level is closed in drop or, after an ERROR, by PostgreSQL.
        (access == Access::Callers).then(|| unsafe {
            let was_read_only = pg_sys::XactReadOnly;
            pg_sys::XactReadOnly = true;
            Unchanging { was_read_only, level: pg_sys::NewGUCNestLevel() }
        })
    }
}

impl Drop for Unchanging {
    fn drop(&mut self) {
        // As with the connection.
        if !std::thread::panicking() {
            // SAFETY: as above. As if aborted: a commit would keep the values.
            unsafe {
                pg_sys::AtEOXact_GUC(false, self.level);
                pg_sys::XactReadOnly = self.was_read_only;
            }
        }
    }
}

/// What the planner expects of a query.
///
/// # Safety
///
/// The portal is open.
unsafe fn expected_rows(portal: pg_sys::Portal) -> Option<u64> {
    // SAFETY: as above; a utility statement has no plan.
    let rows = unsafe { pg_sys::PortalGetPrimaryStmt(portal).as_ref()?.planTree.as_ref()?.plan_rows };
    Some(rows as u64)
}

/// A query of a trigger, whose rows are brought as they are wanted.
///
/// It stands on a connection to SPI: those that are opened after it must be closed before it.
#[derive(Debug)]
pub struct TriggerCursor {
    /// `None` when it is closed.
    portal: Option<Portal>,
    _connection: Connection,
}

impl TriggerCursor {
    /// Sees the tables of the rows before and after the trigger's statement, and in others what the
    /// statement has written.
    pub fn in_trigger(trigger: &PgTrigger, sql: &str) -> Result<Self> {
        let connection = Connection::open()?;
        let data = std::ptr::from_ref(trigger.trigger_data()).cast_mut();
        // SAFETY: PostgreSQL's own data of the running trigger, which the connection does not outlive.
        match unsafe { pg_sys::SPI_register_trigger_data(data) } {
            code if code >= 0 => Ok(TriggerCursor {
                portal: Some(Portal::open(sql, &[], Access::Current)?),
                _connection: connection,
            }),
            code => Err(Error::Internal(format!("SPI_register_trigger_data returned {code}"))),
        }
    }

    /// Shows up to `most` more rows to `each`, until that returns false; whether there may be more.
    pub fn fetch(&mut self, most: i64, mut each: impl FnMut(&Row) -> Result<bool>) -> Result<bool> {
        let Some(portal) = &self.portal else { return Ok(false) };
        let mut wants_more = true;
        let shown = portal.fetch(most, |row| {
            wants_more = each(row)?;
            Ok(wants_more)
        })?;
        Ok(shown > 0 && wants_more)
    }
}

impl Drop for TriggerCursor {
    fn drop(&mut self) {
        // As with the connection.
        if let Some(portal) = self.portal.take().filter(|_| !std::thread::panicking()) {
            portal.close();
        }
    }
}
