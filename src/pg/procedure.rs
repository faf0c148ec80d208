//! Procedures that commit transactions. Only CALL allows that; a function cannot.

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
        Some("Call it with autocommit, and not after BEGIN.".to_owned())
    }
}

/// A running procedure, outside of any transaction block.
#[derive(Debug)]
pub struct Procedure(());

impl Procedure {
    /// Connects to SPI for a procedure of this name. An error if the procedure was called where it cannot commit.
    pub fn enter(call: pg_sys::FunctionCallInfo, name: &'static str) -> Result<Self> {
        // SAFETY: PostgreSQL passes the context of a CALL, which says whether it may commit. The SPI connection is
        // closed in drop.
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

    /// Runs `work` in its own transaction and commits it. Between two transactions the session holds no lock and no
    /// snapshot, so it may wait without blocking others.
    ///
    /// Memory that PostgreSQL allocates for the work is freed afterwards. After an error the transaction stays open,
    /// and is rolled back when the call fails.
    pub fn transaction<T: 'static>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        // SAFETY: the first transaction is the CALL's own and has its snapshot. In a later one nothing has been read
        // yet, so its isolation level may still be set. The snapshot belongs to the portal that the CALL runs in.
        unsafe {
            if !pg_sys::ActiveSnapshotSet() {
                // At a higher level, a row that another transaction changes would be an error.
                pg_sys::XactIsoLevel = pg_sys::XACT_READ_COMMITTED as i32;
                pg_sys::EnsurePortalSnapshotExists();
            }
        }
        // SAFETY: the result, being 'static, refers to no memory of PostgreSQL. The context is deleted before the
        // transaction ends.
        let result = unsafe { PgMemoryContexts::new("susx transaction").switch_to(|_| work()) }?;
        // SAFETY: the topmost SPI connection is that of `enter`, because the work has closed its own. A new transaction
        // begins, which nothing has used yet.
        unsafe { pg_sys::SPI_commit() };
        Ok(result)
    }
}

impl Drop for Procedure {
    fn drop(&mut self) {
        // Unwinding means that an ERROR is being raised. PostgreSQL then closes the connection.
        if !std::thread::panicking() {
            // SAFETY: closes the connection of `enter`.
            unsafe { pg_sys::SPI_finish() };
        }
    }
}
