//! Long computations that their caller can leave.
//!
//! A backend of PostgreSQL must act on a cancel, a timeout or its own end within moments, whatever it computes. So the
//! loops of this crate whose length depends on the data call `check` every millisecond or so, and the caller says
//! once per process what that is to do. It may panic: nothing is half done that somebody could still see.

use std::sync::OnceLock;

static HOOK: OnceLock<fn()> = OnceLock::new();

/// Has `hook` called in all computations from now on, by the thread that computes. The first one stays.
pub fn register(hook: fn()) {
    HOOK.get_or_init(|| hook);
}

/// Lets the caller leave, if it wants to.
pub(crate) fn check() {
    if let Some(hook) = HOOK.get() {
        hook();
    }
}
