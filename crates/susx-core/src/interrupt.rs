//! Interrupting long computations.
//!
//! A PostgreSQL backend must react to a cancellation, a timeout or its own termination within moments, during any
//! computation. So the loops of this crate whose length depends on data call [`check`] about every millisecond, and the
//! caller registers once per process what that does. The hook may panic: no state is left that other code could still
//! see.

use std::sync::OnceLock;

static HOOK: OnceLock<fn()> = OnceLock::new();

/// Registers the function that all computations call from now on, in the thread that computes. Later calls have no
/// effect.
pub fn register(hook: fn()) {
    HOOK.get_or_init(|| hook);
}

/// Calls the hook, which may panic to interrupt the computation.
pub(crate) fn check() {
    if let Some(hook) = HOOK.get() {
        hook();
    }
}
