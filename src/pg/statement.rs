//! Identifies the running statement.
//!
//! Two statements of a transaction may have equal snapshots, so a snapshot does not identify a statement, and
//! PostgreSQL does not number statements. So a hook numbers the runs of the executor and keeps a stack of the current
//! ones.

use std::cell::{Cell, RefCell};
use std::sync::OnceLock;

use pgrx::prelude::*;

/// Number of a run of the executor in this process. Each FETCH from a cursor is a separate run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StatementId(u64);

#[derive(Debug)]
struct Run {
    id: StatementId,
    query: *mut pg_sys::QueryDesc,
}

thread_local! {
    static RUNS: RefCell<Vec<Run>> = const { RefCell::new(Vec::new()) };
    static LAST: Cell<u64> = const { Cell::new(0) };
}

/// Called when a statement ends.
static ON_END: OnceLock<&[fn(StatementId)]> = OnceLock::new();

/// The hook that was installed before.
static PREVIOUS: OnceLock<pg_sys::ExecutorRun_hook_type> = OnceLock::new();

/// Has all of these called with every statement that ends, including those that fail. Called once per process.
pub fn on_end(calls: &'static [fn(StatementId)]) {
    let _ = ON_END.set(calls);
}

/// Installs the hook. Called once per process.
pub fn register() {
    // SAFETY: reads and writes a variable of this process while the library is being loaded.
    unsafe {
        if PREVIOUS.set(pg_sys::ExecutorRun_hook).is_ok() {
            pg_sys::ExecutorRun_hook = Some(executor_run);
        }
    }
}

/// The statement that the running call is part of; `None` if the executor does not run the call. PL/pgSQL evaluates
/// simple expressions itself, and the planner calls functions too.
pub fn current() -> Option<StatementId> {
    RUNS.with_borrow(|runs| {
        let run = runs.last()?;
        // SAFETY: a running query has a state. Memory contexts form a tree whose root has no parent.
        unsafe {
            let own = (*(*run.query).estate).es_query_cxt;
            let mut context = pg_sys::CurrentMemoryContext;
            while !context.is_null() && context != own {
                context = (*context).parent;
            }
            (context == own).then_some(run.id)
        }
    })
}

/// The running statement that began last. The running call need not be part of it.
pub fn innermost() -> Option<StatementId> {
    RUNS.with_borrow(|runs| runs.last().map(|run| run.id))
}

/// When the client's statement began, which identifies it: also while it is planned, and in all statements that it runs.
pub fn started() -> i64 {
    // SAFETY: reads a variable of this process.
    unsafe { pg_sys::GetCurrentStatementStartTimestamp() }
}

/// Whether the statement is still running.
pub fn is_running(statement: StatementId) -> bool {
    RUNS.with_borrow(|runs| runs.iter().any(|run| run.id == statement))
}

/// Removes its run from the stack when dropped, which also happens on an error.
#[derive(Debug)]
struct Running(StatementId);

impl Running {
    fn begin(query: *mut pg_sys::QueryDesc) -> Self {
        let id = StatementId(LAST.get() + 1);
        LAST.set(id.0);
        RUNS.with_borrow_mut(|runs| runs.push(Run { id, query }));
        Running(id)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNS.with_borrow_mut(|runs| runs.retain(|run| run.id != self.0));
        for on_end in ON_END.get().into_iter().copied().flatten() {
            on_end(self.0);
        }
    }
}

#[cfg(any(feature = "pg15", feature = "pg16", feature = "pg17"))]
#[pg_guard]
unsafe extern "C-unwind" fn executor_run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: pg_sys::uint64,
    execute_once: bool,
) {
    let _running = Running::begin(query);
    // SAFETY: passes on PostgreSQL's arguments. The guard turns an ERROR into a panic, so `_running` is dropped.
    unsafe {
        match PREVIOUS.get().copied().flatten() {
            Some(previous) => {
                pg_sys::ffi::pg_guard_ffi_boundary(|| previous(query, direction, count, execute_once))
            }
            None => pg_sys::standard_ExecutorRun(query, direction, count, execute_once),
        }
    }
}

#[cfg(feature = "pg18")]
#[pg_guard]
unsafe extern "C-unwind" fn executor_run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: pg_sys::uint64,
) {
    let _running = Running::begin(query);
    // SAFETY: as above.
    unsafe {
        match PREVIOUS.get().copied().flatten() {
            Some(previous) => pg_sys::ffi::pg_guard_ffi_boundary(|| previous(query, direction, count)),
            None => pg_sys::standard_ExecutorRun(query, direction, count),
        }
    }
}
