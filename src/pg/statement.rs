//! Which statement is running.
//!
//! Two statements of one transaction may have equal snapshots, so a snapshot does not tell them apart.
//! PostgreSQL has no number for a statement either. So this counts the runs of the executor: a hook keeps a
//! stack of those that have begun and not ended.

use std::cell::{Cell, RefCell};
use std::sync::OnceLock;

use pgrx::prelude::*;

/// One run of the executor in this process. Each FETCH from a cursor is a run of its own.
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

/// What is called when a statement ends.
static ON_END: OnceLock<fn(StatementId)> = OnceLock::new();

/// The hook that was there before ours.
static PREVIOUS: OnceLock<pg_sys::ExecutorRun_hook_type> = OnceLock::new();

/// Has `call` called with every statement that ends, also after an error. Once per process.
pub fn on_end(call: fn(StatementId)) {
    let _ = ON_END.set(call);
}

/// Installs the hook. Once per process.
pub fn register() {
    // SAFETY: reads and writes a variable of this process, while the library is loaded.
    unsafe {
        if PREVIOUS.set(pg_sys::ExecutorRun_hook).is_ok() {
            pg_sys::ExecutorRun_hook = Some(executor_run);
        }
    }
}

/// The statement that the running call is part of. `None` where no executor runs that call: PL/pgSQL
/// evaluates a simple expression by itself, and the planner calls functions too.
pub fn current() -> Option<StatementId> {
    RUNS.with_borrow(|runs| {
        let run = runs.last()?;
        // SAFETY: a query that runs has a state. Memory contexts form a tree whose root has no parent.
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

/// The statement that has begun last of those that run, which the running call need not be a part of.
pub fn innermost() -> Option<StatementId> {
    RUNS.with_borrow(|runs| runs.last().map(|run| run.id))
}

/// Whether the statement has not ended.
pub fn is_running(statement: StatementId) -> bool {
    RUNS.with_borrow(|runs| runs.iter().any(|run| run.id == statement))
}

/// Takes its run off the stack, also when an error ends it.
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
        if let Some(on_end) = ON_END.get() {
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
    // SAFETY: passes on what PostgreSQL has passed; the guard turns an ERROR into a panic, so that `_running`
    // is dropped.
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
