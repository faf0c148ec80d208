//! Waiting that a cancel interrupts, and that ends if the postmaster exits.

use std::os::fd::RawFd;
use std::time::Duration;

use pgrx::{check_for_interrupts, pg_sys};

/// Whether to wait until a socket is readable, writable, or either.
#[derive(Clone, Copy, Debug)]
pub struct Interest {
    pub read: bool,
    pub write: bool,
}

/// Handles a pending cancel or statement_timeout, by a panic that becomes an ERROR. To be called during computations.
pub fn check() {
    check_for_interrupts!();
}

/// Waits until the socket is ready. Handles a cancel or statement_timeout while it waits.
pub fn for_socket(socket: RawFd, interest: Interest) {
    let mut events = pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH;
    if interest.read {
        events |= pg_sys::WL_SOCKET_READABLE;
    }
    if interest.write {
        events |= pg_sys::WL_SOCKET_WRITEABLE;
    }
    wait(events, socket, -1);
}

/// Waits for a time. Handles a cancel or statement_timeout while it waits. The latch may end the wait early.
pub fn for_time(time: Duration) {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH | pg_sys::WL_TIMEOUT;
    wait(events, pg_sys::PGINVALID_SOCKET, milliseconds(time));
}

/// Waits until the socket is ready or the time has passed. Handles a cancel or statement_timeout while it waits.
pub fn for_socket_or_time(socket: RawFd, interest: Interest, time: Duration) {
    let mut events = pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH | pg_sys::WL_TIMEOUT;
    if interest.read {
        events |= pg_sys::WL_SOCKET_READABLE;
    }
    if interest.write {
        events |= pg_sys::WL_SOCKET_WRITEABLE;
    }
    wait(events, socket, milliseconds(time));
}

/// Waits in a background worker until the descriptor is readable, a signal arrives or the time has passed. Returns
/// false if the postmaster has exited, so that the worker can clean up.
pub fn as_worker(descriptor: Option<RawFd>, time: Duration) -> bool {
    let mut events = pg_sys::WL_LATCH_SET | pg_sys::WL_POSTMASTER_DEATH | pg_sys::WL_TIMEOUT;
    if descriptor.is_some() {
        events |= pg_sys::WL_SOCKET_READABLE;
    }
    let ready = wait(events, descriptor.unwrap_or(pg_sys::PGINVALID_SOCKET), milliseconds(time));
    ready & pg_sys::WL_POSTMASTER_DEATH as i32 == 0
}

/// Rounds up, because waiting for 0 ms would be a busy loop.
fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i64::MAX)
}

/// Returns the events that occurred. A negative time means no limit.
fn wait(events: u32, socket: RawFd, milliseconds: i64) -> i32 {
    // SAFETY: MyLatch is this process's latch. The socket is open or PGINVALID_SOCKET.
    let ready = unsafe {
        let ready = pg_sys::WaitLatchOrSocket(
            pg_sys::MyLatch,
            events as i32,
            socket,
            milliseconds,
            pg_sys::PG_WAIT_EXTENSION,
        );
        if ready & pg_sys::WL_LATCH_SET as i32 != 0 {
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
        ready
    };
    check_for_interrupts!();
    ready
}
