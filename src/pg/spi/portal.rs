//! Portals: queries that are running, and what they may see and do.

use std::ffi::{CStr, CString};

use pgrx::datum::DatumWithOid;
use pgrx::{PgMemoryContexts, check_for_interrupts, pg_sys};

use super::Row;
use crate::pg::error::{Error, Result};

/// The columns of a query's result, known before its first row.
#[derive(Debug)]
pub struct Columns {
    descriptor: pg_sys::TupleDesc,
    expected_rows: Option<u64>,
}

impl Columns {
    /// The number of columns.
    pub fn count(&self) -> i32 {
        // SAFETY: the descriptor belongs to a portal that is open.
        unsafe { (*self.descriptor).natts }
    }

    /// The type of a column, counted from 1; invalid for a column that does not exist.
    pub fn type_oid(&self, column: i32) -> pg_sys::Oid {
        // SAFETY: as above.
        unsafe { pg_sys::SPI_gettypeid(self.descriptor, column) }
    }

    /// The name of a column, counted from 1; empty for a column that does not exist.
    pub fn name(&self, column: i32) -> String {
        // SAFETY: as above; the result is NULL or a palloc'd C string.
        unsafe {
            let name = pg_sys::SPI_fname(self.descriptor, column);
            if name.is_null() { String::new() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
        }
    }

    /// The number of rows that the planner expects; `None` for a statement without a plan.
    pub fn expected_rows(&self) -> Option<u64> {
        self.expected_rows
    }
}

/// Which rows a query sees, and what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// What the running statement sees. PostgreSQL refuses every statement that would write.
    Statement,
    /// The same, for a query that the caller wrote: the functions that it calls may not write either.
    UserQuery,
    /// What the running statement sees and what it has written itself.
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
        let sql = CString::new(sql).map_err(|_| Error::internal("a query holds a NUL"))?;
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
                return Err(Error::internal(format_args!("SPI_prepare returned {code}")));
            }
            let statements = pg_sys::SPI_plan_get_plan_sources(plan).as_ref().map_or(0, |list| list.length);
            if statements != 1 {
                return Err(Error::argument(format!("a query must be one statement, not {statements}")));
            }
            let (name, values) = (std::ptr::null(), values.as_mut_ptr());
            let is_read_only = access != Access::Current;
            let _scope = ReadOnlyScope::of(access);
            let portal = pg_sys::SPI_cursor_open(name, plan, values, nulls.as_ptr(), is_read_only);
            Ok(Portal { portal, access })
        }
    }

    /// The open portal of that name, which was opened with that access; `None` if it has been closed.
    pub fn find(name: &CStr, access: Access) -> Option<Self> {
        // SAFETY: a C string; the result is NULL or an open portal.
        let portal = unsafe { pg_sys::SPI_cursor_find(name.as_ptr()) };
        (!portal.is_null()).then_some(Portal { portal, access })
    }

    /// The name, which is unique among open portals.
    pub fn name(&self) -> CString {
        // SAFETY: the portal is open, and its name is a C string.
        unsafe { CStr::from_ptr((*self.portal).name).to_owned() }
    }

    pub fn columns(&self) -> Columns {
        // SAFETY: the portal is open.
        unsafe { Columns { descriptor: (*self.portal).tupDesc, expected_rows: expected_rows(self.portal) } }
    }

    /// Passes up to `most` of the next rows to `each`, until that returns false. Returns how many it has seen. The
    /// caller is connected to SPI.
    pub fn fetch(&self, most: i64, mut each: impl FnMut(&Row) -> Result<bool>) -> Result<usize> {
        // What detoasting allocates is freed after every row: an image may be large.
        let mut scratch = PgMemoryContexts::new("susx rows");
        self.with_next_rows(most, |rows| {
            for (seen, row) in (1..).zip(rows) {
                check_for_interrupts!();
                // SAFETY: what leaves the context is allocated by Rust.
                let wants_more = unsafe { scratch.switch_to(|_| each(row))? };
                // SAFETY: nothing of it is used after this.
                unsafe { scratch.reset() };
                if !wants_more {
                    return Ok(seen);
                }
            }
            Ok(rows.len())
        })
    }

    /// Like [`fetch`](Self::fetch), but returns whether to go on: false at the end of the query, or once `each` has
    /// returned false.
    pub fn fetch_until(&self, most: i64, mut each: impl FnMut(&Row) -> Result<bool>) -> Result<bool> {
        let mut wants_more = true;
        let seen = self.fetch(most, |row| {
            wants_more = each(row)?;
            Ok(wants_more)
        })?;
        Ok(seen > 0 && wants_more)
    }

    /// Passes up to `most` of the next rows to `each` at once. The caller is connected to SPI.
    pub fn fetch_batch<T>(&self, most: i64, each: impl FnOnce(&[Row]) -> Result<T>) -> Result<T> {
        let mut scratch = PgMemoryContexts::new("susx rows");
        // SAFETY: what leaves the context is allocated by Rust.
        self.with_next_rows(most, |rows| unsafe { scratch.switch_to(|_| each(rows)) })
    }

    /// Runs `look` on the next rows, and frees them.
    fn with_next_rows<T>(&self, most: i64, look: impl FnOnce(&[Row]) -> Result<T>) -> Result<T> {
        check_for_interrupts!();
        // SAFETY: the portal is open, and its tuples are used before they are freed. Other queries may run in the
        // meantime, on their own connections.
        unsafe {
            {
                let _scope = ReadOnlyScope::of(self.access);
                pg_sys::SPI_cursor_fetch(self.portal, true, most);
            }
            let (table, count) = (pg_sys::SPI_tuptable, pg_sys::SPI_processed as usize);
            let Some(found) = table.as_ref() else { return look(&[]) };
            let row = |index| Row::new(*found.vals.add(index), found.tupdesc);
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

/// Makes the transaction read-only until dropped, and then restores the settings that were changed in the meantime. A
/// query that the caller wrote calls functions, and these might write or change settings where the query itself may
/// not.
#[derive(Debug)]
struct ReadOnlyScope {
    was_read_only: bool,
    level: std::ffi::c_int,
}

impl ReadOnlyScope {
    /// `None` for susx's own queries, which need none.
    fn of(access: Access) -> Option<Self> {
        // SAFETY: a variable of this process, which PostgreSQL itself restores when a (sub)transaction is
        // aborted; the level is closed in drop or, after an ERROR, by PostgreSQL.
        (access == Access::UserQuery).then(|| unsafe {
            let was_read_only = pg_sys::XactReadOnly;
            pg_sys::XactReadOnly = true;
            ReadOnlyScope { was_read_only, level: pg_sys::NewGUCNestLevel() }
        })
    }
}

impl Drop for ReadOnlyScope {
    fn drop(&mut self) {
        // While Rust unwinds, an ERROR is under way and PostgreSQL restores both.
        if !std::thread::panicking() {
            // SAFETY: as above. Ends the level as an abort would: a commit would keep the changed values.
            unsafe {
                pg_sys::AtEOXact_GUC(false, self.level);
                pg_sys::XactReadOnly = self.was_read_only;
            }
        }
    }
}

/// The number of rows that the planner expects of a query.
///
/// # Safety
///
/// The portal is open.
unsafe fn expected_rows(portal: pg_sys::Portal) -> Option<u64> {
    // SAFETY: as above; a utility statement has no plan.
    let rows = unsafe { pg_sys::PortalGetPrimaryStmt(portal).as_ref()?.planTree.as_ref()?.plan_rows };
    Some(rows as u64)
}
