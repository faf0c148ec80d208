//! Procedures that end transactions, which CALL allows and a function cannot do.

use pgrx::{PgMemoryContexts, PgSqlErrorCode, is_a, pg_sys};

use super::error::{Error, Result, SqlError};

/// A procedure was called where it cannot commit.
#[derive(Debug, thiserror::Error)]
#[error("{0} commits after every batch, so it cannot run in a transaction block or a function")]
struct InTransaction(&'static str);

impl SqlError for InTransaction {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_INVALID_TRANSACTION_TERMINATION
    }

    fn hint(&self) -> Option<String> {
        Some("Call it by itself: with autocommit, and not after BEGIN.".to_owned())
    }
}

/// A procedure that runs, outside of any transaction block.
#[derive(Debug)]
pub struct Procedure(());

impl Procedure {
    /// An error if the procedure of this name was called where a transaction cannot be ended.
    pub fn enter(call: pg_sys::FunctionCallInfo, name: &'static str) -> Result<Self> {
        // SAFETY: PostgreSQL passes the context of a CALL, which says what is allowed. The SPI
        // connection, in which transactions can be ended, is closed in drop.
        unsafe {
            let context = (*call).context;
            let is_atomic = context.is_null()
                || !is_a(context, pg_sys::NodeTag::T_CallContext)
                || (*context.cast::<pg_sys::CallContext>()).atomic;
            if is_atomic {
                return Err(InTransaction(name).into());
            }
            match pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as i32) {
                code if code == pg_sys::SPI_OK_CONNECT as i32 => Ok(Procedure(())),
                code => Err(Error::internal(format_args!("SPI_connect_ext returned {code}"))),
            }
        }
    }

    /// Does some work in a transaction of its own, and commits it. Between two of them the session holds
    /// no lock and no snapshot: it is in nobody's way, and may wait.
    ///
    /// What PostgreSQL allocates for the work is freed after it. After an error the transaction is left
    /// open, and rolled back with the call.
    pub fn transaction<T: 'static>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        // SAFETY: the first transaction is the CALL's own, with its snapshot. In a later one nothing has
        // been read yet, so that its isolation may be chosen as PostgreSQL itself does when it starts
        // one; the snapshot belongs to the portal that the CALL runs in.
        unsafe {
            if !pg_sys::ActiveSnapshotSet() {
                // At a higher level a row that somebody else changes would be an error.
                pg_sys::XactIsoLevel = pg_sys::XACT_READ_COMMITTED as i32;
                pg_sys::EnsurePortalSnapshotExists();
            }
        }
        // SAFETY: the result holds nothing that PostgreSQL has allocated; the context is deleted before
        // the transaction ends.
        let result = unsafe { PgMemoryContexts::new("susx transaction").switch_to(|_| work()) }?;
        // SAFETY: the SPI connection on top is that of `enter`, for each that the work has opened is
        // closed. A new transaction begins, which nothing has used yet.
        unsafe { pg_sys::SPI_commit() };
        Ok(result)
    }
}

impl Drop for Procedure {
    fn drop(&mut self) {
        // A Rust unwinding means that an ERROR is on its way, and that SPI is not ours any more.
        if !std::thread::panicking() {
            // SAFETY: closes the connection of `enter`.
            unsafe { pg_sys::SPI_finish() };
        }
    }
}
