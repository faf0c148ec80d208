//! The inference process: started on first use, restarted when it dies, ended with the postmaster.
//!
//! A background worker without database access is its parent and does nothing else. It holds the
//! process's standard input: when the worker ends, in whatever way, the process sees the end of file,
//! and the kernel kills it should it be too stuck to see anything.

mod command;
mod log;
mod place;
mod process;
mod watch;

use std::ffi::{CStr, c_int};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags};
use pgrx::prelude::*;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use self::place::Charge;
use self::process::Server;
use crate::inference::error::InferenceError;
use crate::pg::error::Result;
use crate::pg::{guc, wait};

/// Below the data directory, which is the working directory of every PostgreSQL process: a relative
/// path is never too long for a socket.
const DIRECTORY: &str = "susx";
const SOCKET: &str = "susx/socket";
const SOCKET_FOR_C: &CStr = c"susx/socket";
/// Where a starting server makes its socket.
const NEW_SOCKET: &str = "susx/socket.new";
/// Where a server writes down the models that it was stuck in, for the next one.
const STUCK: &str = "susx/stuck";

const WORKER: &str = "susx supervisor";

/// Between two looks for the socket of a server that is starting.
pub const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Between two requests for a supervisor.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Lets the postmaster start the supervisor where the library is in shared_preload_libraries.
pub fn register_at_start() {
    // SAFETY: reads a flag of PostgreSQL's.
    if unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        worker().set_restart_time(Some(Duration::from_secs(5))).load();
    }
}

fn worker() -> BackgroundWorkerBuilder {
    BackgroundWorkerBuilder::new(WORKER)
        .set_type(WORKER)
        .set_library("susx")
        .set_function("susx_supervisor_main")
        .enable_shmem_access(None)
        .set_start_time(BgWorkerStartTime::ConsistentState)
}

/// Connects a backend to the server; starts the server where there is none, and waits for it.
pub fn connect(deadline: Instant) -> Result<UnixStream> {
    let mut ask_at = Instant::now();
    // Not at once an error: what fills the workers may be other sessions' supervisors, which end when
    // they see that one is in charge.
    let mut no_worker = false;
    loop {
        match try_connect() {
            Ok(stream) => return Ok(stream),
            Err(error) if is_absent(&error) => {}
            // The queue of waiting connections is full.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(InferenceError::ConnectionLost(error).into()),
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(if no_worker { no_free_worker() } else { not_started() }.into());
        }
        if now >= ask_at {
            no_worker = !ask_for_supervisor()?;
            ask_at = now + ASK_AGAIN;
        }
        wait::for_time(LOOK_AGAIN);
    }
}

/// Whether nobody is there to connect to: no server listens, or the way to its socket is gone or blocked, which the
/// supervisor sets right.
pub fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::ConnectionRefused
            | ErrorKind::NotADirectory
            | ErrorKind::PermissionDenied
    ) || error.raw_os_error() == Some(libc::ELOOP)
}

fn not_started() -> InferenceError {
    InferenceError::Unavailable(
        format!("the inference process did not start within {:?}", guc::startup_timeout()),
        "PostgreSQL's log says why; susx.startup_timeout says how long to wait.",
    )
}

fn no_free_worker() -> InferenceError {
    InferenceError::Unavailable(
        "there is no free background worker for the supervisor of the inference process".to_owned(),
        "Raise max_worker_processes, or put susx into shared_preload_libraries, and restart.",
    )
}

/// Connects without waiting: the standard library's own connect would wait for a server that is stuck,
/// and could not be cancelled.
pub fn try_connect() -> io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(SOCKET)?)?;
    Ok(UnixStream::from(socket))
}

/// Asks the postmaster for a supervisor; false if it has no worker to spare. Where one is in charge
/// already, the new one ends at once.
fn ask_for_supervisor() -> Result<bool> {
    let program = command::program();
    if !program.is_file() {
        return Err(InferenceError::Unavailable(
            format!("the program {} does not exist", program.display()),
            "Install it there, or set susx.server_program and reload the configuration.",
        )
        .into());
    }
    Ok(worker().load_dynamic().is_ok())
}

/// The supervisor.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn susx_supervisor_main(_arg: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(
        SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM | SignalWakeFlags::SIGCHLD,
    );
    let _charge = match Charge::take() {
        Ok(Some(charge)) => charge,
        Ok(None) => return,
        Err(error) => {
            warning!("susx: cannot lock the data directory for the supervisor: {error}");
            return;
        }
    };
    // Left behind where a supervisor was killed.
    forget_stuck_models();
    remove_socket_when_quitting();
    let mut server = Server::new();
    loop {
        let time = server.keep_running();
        if !wait::as_worker(server.descriptor(), time) || BackgroundWorker::sigterm_received() {
            break;
        }
        if BackgroundWorker::sighup_received() {
            // SAFETY: this is the main loop of a background worker, where that is done.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
            forget_stuck_models();
        }
    }
    server.stop();
}

/// Models that a server was stuck in are tried again after a restart of PostgreSQL and after a reload.
fn forget_stuck_models() {
    // Mostly there is none.
    let _ = fs::remove_file(STUCK);
}

/// An immediate shutdown, and a crash of a backend, end every process by SIGQUIT, and the server is
/// killed with its parent: nobody else is left to remove the socket.
fn remove_socket_when_quitting() {
    extern "C" fn quit(_signal: c_int) {
        // SAFETY: both are async-signal-safe. PostgreSQL's own handler does the second, with that code.
        unsafe {
            libc::unlink(SOCKET_FOR_C.as_ptr());
            libc::_exit(2);
        }
    }
    // SAFETY: takes the place of PostgreSQL's handler of this signal in this process alone.
    unsafe { libc::signal(libc::SIGQUIT, quit as extern "C" fn(c_int) as libc::sighandler_t) };
}
