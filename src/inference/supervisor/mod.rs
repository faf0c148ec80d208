//! Starts the inference process on first use, restarts it after a crash, and stops it with the postmaster.
//!
//! The parent of the process is a background worker without database access, which does nothing else. It holds the
//! write end of the process's standard input. However the worker ends, the process reads the end of the file and exits;
//! and the kernel kills it, in case it hangs.

mod command;
mod heartbeat;
mod log;
mod process;
mod socket_directory;

use std::ffi::{CStr, c_int};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags};
use pgrx::prelude::*;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

pub use self::command::{onnxruntime_library, program};
use self::process::Server;
use self::socket_directory::SupervisorLock;
use crate::inference::error::InferenceError;
use crate::pg::error::Result;
use crate::pg::{guc, wait};

/// Relative to the data directory, which is the working directory of every PostgreSQL process. Unlike an absolute path,
/// a relative one is never too long for a socket.
const DIRECTORY: &str = "susx";
const SOCKET: &str = "susx/socket";
const SOCKET_FOR_C: &CStr = c"susx/socket";
/// Where a starting server creates its socket before it renames it.
const NEW_SOCKET: &str = "susx/socket.new";
/// Where a server records the models that exceeded `susx.load_timeout`, so that the next server does not load them.
const STUCK_MODELS: &str = "susx/stuck";

/// Name and type of the background worker.
const WORKER: &str = "susx supervisor";

/// How often to retry connecting to a server that is starting.
pub const CONNECT_INTERVAL: Duration = Duration::from_millis(10);
/// How often to ask the postmaster again for a supervisor.
const REQUEST_INTERVAL: Duration = Duration::from_secs(1);

/// Argument of the supervisor that starts with PostgreSQL.
const AT_START: bool = true;

/// Has the postmaster start the supervisor, if the library is in shared_preload_libraries.
pub fn register_at_start() {
    // SAFETY: reads a flag of PostgreSQL.
    if unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        worker().set_restart_time(Some(Duration::from_secs(5))).set_argument(AT_START.into_datum()).load();
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

/// Connects a backend to the server. If it is not running, starts it and waits for it.
pub fn connect(deadline: Instant) -> Result<UnixStream> {
    let mut next_request = Instant::now();
    // Not an error at once: other sessions' supervisors may take up the workers. All but one of them end immediately.
    let mut no_worker = false;
    loop {
        match try_connect() {
            Ok(stream) => return Ok(stream),
            Err(error) if is_absent(&error) => {}
            // The server's queue of new connections is full.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(InferenceError::ConnectionLost(error).into()),
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(if no_worker { no_free_worker() } else { not_started() }.into());
        }
        if now >= next_request {
            no_worker = !request_supervisor()?;
            next_request = now + REQUEST_INTERVAL;
        }
        wait::for_time(CONNECT_INTERVAL);
    }
}

/// Whether the error of a connection attempt means that no server can be reached: none is listening, or its socket is
/// missing or inaccessible, which the supervisor repairs.
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
        "PostgreSQL's log may say why. susx.startup_timeout sets how long to wait.",
    )
}

fn no_free_worker() -> InferenceError {
    InferenceError::Unavailable(
        "there is no free background worker for the supervisor of the inference process".to_owned(),
        "Increase max_worker_processes, or add susx to shared_preload_libraries, and restart PostgreSQL.",
    )
}

/// Connects without waiting. The standard library's connect would wait for a server that hangs, and could not be
/// cancelled.
pub fn try_connect() -> io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(SOCKET)?)?;
    Ok(UnixStream::from(socket))
}

/// Asks the postmaster to start a supervisor. Returns false if there is no free background worker. If a supervisor is
/// running already, the new one ends at once.
fn request_supervisor() -> Result<bool> {
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

/// Main function of the supervisor.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn susx_supervisor_main(argument: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(
        SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM | SignalWakeFlags::SIGCHLD,
    );
    let _lock = match SupervisorLock::take() {
        Ok(Some(lock)) => lock,
        Ok(None) => return,
        Err(error) => {
            warning!("susx: cannot lock the data directory for the supervisor: {error}");
            return;
        }
    };
    // A supervisor that was killed may have left the file behind.
    retry_timed_out_models();
    remove_socket_on_sigquit();
    // A supervisor that a session asks for has no argument: that session's call loads a model anyway.
    let mut server = Server::new(argument.value() != 0);
    loop {
        let time = server.keep_running();
        if !wait::as_worker(server.descriptor(), time) || BackgroundWorker::sigterm_received() {
            break;
        }
        if BackgroundWorker::sighup_received() {
            // SAFETY: this is the main loop of a background worker, the place to process the configuration.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
            retry_timed_out_models();
        }
    }
    server.stop();
}

/// Models that exceeded `susx.load_timeout` are tried again after a restart of PostgreSQL or a reload of its
/// configuration.
fn retry_timed_out_models() {
    // There is usually no such file.
    let _ = fs::remove_file(STUCK_MODELS);
}

/// On an immediate shutdown, and after a crash of a backend, the postmaster ends all processes by SIGQUIT. The kernel
/// then kills the server along with its parent, so the signal handler has to remove the socket.
fn remove_socket_on_sigquit() {
    extern "C" fn quit(_signal: c_int) {
        // SAFETY: both calls are async-signal-safe. PostgreSQL's own handler exits with the same code.
        unsafe {
            libc::unlink(SOCKET_FOR_C.as_ptr());
            libc::_exit(2);
        }
    }
    // SAFETY: replaces PostgreSQL's handler of this signal, in this process only.
    unsafe { libc::signal(libc::SIGQUIT, quit as extern "C" fn(c_int) as libc::sighandler_t) };
}
