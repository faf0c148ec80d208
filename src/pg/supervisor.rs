//! The inference process: started on first use, restarted when it dies, ended with the postmaster.
//!
//! A background worker without database access is its parent and does nothing else. It holds the
//! process's standard input: when the worker ends, in whatever way, the process sees the end of file,
//! and the kernel kills it should it be too stuck to see anything.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags};
use pgrx::prelude::*;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::error::{Error, Result};
use super::{guc, wait};

/// Below the data directory, which is the working directory of every PostgreSQL process: a relative
/// path is never too long for a socket.
const DIRECTORY: &str = "susx";
const SOCKET: &str = "susx/socket";
/// Locked by the supervisor that is in charge.
const LOCK: &str = "susx/lock";

const PROGRAM: &str = "susx-server";
const LIBRARY: &str = "libonnxruntime.so";
const WORKER: &str = "susx supervisor";

/// Between two looks for the socket of a server that is starting.
pub const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Between two requests for a supervisor.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long the server may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(5);
/// A server that lived this long gets a prompt restart.
const STEADY: Duration = Duration::from_secs(60);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(30);

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
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
            // The queue of waiting connections is full.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(Error::ConnectionLost(error)),
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(if no_worker { no_free_worker() } else { not_started() });
        }
        if now >= ask_at {
            no_worker = !ask_for_supervisor()?;
            ask_at = now + ASK_AGAIN;
        }
        wait::for_time(LOOK_AGAIN);
    }
}

fn not_started() -> Error {
    Error::ServerUnavailable(
        format!("the inference process did not start within {:?}", guc::startup_timeout()),
        "PostgreSQL's log says why; susx.startup_timeout says how long to wait.",
    )
}

fn no_free_worker() -> Error {
    Error::ServerUnavailable(
        "there is no free background worker for the supervisor of the inference process".to_owned(),
        "Raise max_worker_processes, or put susx into shared_preload_libraries, and restart.",
    )
}

/// Connects without waiting: the standard library's own connect would wait for a server that is stuck,
/// and could not be cancelled.
fn try_connect() -> io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(SOCKET)?)?;
    Ok(UnixStream::from(socket))
}

/// Asks the postmaster for a supervisor; false if it has no worker to spare. Where one is in charge
/// already, the new one ends at once.
fn ask_for_supervisor() -> Result<bool> {
    let program = program();
    if !program.is_file() {
        return Err(Error::ServerUnavailable(
            format!("the program {} does not exist", program.display()),
            "Install it there, or set susx.server_program and reload the configuration.",
        ));
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
    let _lock = match take_charge() {
        Ok(Some(lock)) => lock,
        Ok(None) => return,
        Err(error) => {
            warning!("susx: cannot use the directory \"{DIRECTORY}\" of the data directory: {error}");
            return;
        }
    };
    let mut server = Server::default();
    while BackgroundWorker::wait_latch(Some(server.keep_running())) {
        if BackgroundWorker::sighup_received() {
            // SAFETY: this is the main loop of a background worker, where that is done.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
        }
    }
    server.stop();
    // Failing that, the next server replaces it.
    let _ = fs::remove_file(SOCKET);
}

/// The lock of the supervisor in charge; `None` if that is another process.
fn take_charge() -> io::Result<Option<File>> {
    match DirBuilder::new().mode(0o700).create(DIRECTORY) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let lock = File::options().create(true).truncate(false).write(true).open(LOCK)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// The process as it should be and as it is.
#[derive(Debug, Default)]
struct Server {
    running: Option<Running>,
    /// When to start the next one, and how long the one after that will wait.
    not_before: Option<Instant>,
    delay: Duration,
}

#[derive(Debug)]
struct Running {
    child: Child,
    command: Vec<OsString>,
    since: Instant,
}

impl Server {
    /// Makes what is into what should be; returns how long to wait for the next look.
    fn keep_running(&mut self) -> Duration {
        let command = command();
        if let Some(running) = &mut self.running {
            match running.child.try_wait() {
                Ok(None) if running.command == command => return LONGEST_DELAY,
                Ok(None) => {
                    log!("susx: restarting the inference process with new settings");
                    self.stop();
                    self.delay = Duration::ZERO;
                }
                Ok(Some(status)) => {
                    let lived = running.since.elapsed();
                    warning!("susx: the inference process ended after {lived:.1?}: {status}");
                    self.running = None;
                    self.wait_before_next(lived);
                }
                Err(error) => {
                    warning!("susx: cannot watch the inference process: {error}");
                    return FIRST_DELAY;
                }
            }
        }
        if let Some(wait) = self.not_before.and_then(|t| t.checked_duration_since(Instant::now())) {
            return wait + Duration::from_millis(1);
        }
        match spawn(&command) {
            Ok(child) => {
                self.running = Some(Running { child, command, since: Instant::now() });
                LONGEST_DELAY
            }
            Err(error) => {
                warning!("susx: cannot start {}: {error}", command[0].to_string_lossy());
                self.wait_before_next(Duration::ZERO);
                self.delay
            }
        }
    }

    /// A process that dies again and again is started less and less often; one that worked for a
    /// while is started again at once.
    fn wait_before_next(&mut self, lived: Duration) {
        self.not_before = Some(Instant::now() + self.delay);
        self.delay = match lived {
            lived if lived >= STEADY => Duration::ZERO,
            _ if self.delay.is_zero() => FIRST_DELAY,
            _ => (self.delay * 2).min(LONGEST_DELAY),
        };
    }

    fn stop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        // The end of its standard input asks it to end.
        drop(running.child.stdin.take());
        let deadline = Instant::now() + GRACE;
        while matches!(running.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                // It has ended meanwhile, or it will: there is nothing to do about a failure.
                let _ = running.child.kill();
                let _ = running.child.wait();
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(command: &[OsString]) -> io::Result<Child> {
    let supervisor = std::process::id();
    let mut process = Command::new(&command[0]);
    process.args(&command[1..]).stdin(Stdio::piped()).stdout(Stdio::null());
    // SAFETY: between fork and exec, only async-signal-safe system calls.
    unsafe {
        process.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // It may have died before the line above.
            if libc::getppid() as u32 != supervisor {
                return Err(ErrorKind::BrokenPipe.into());
            }
            // Whatever PostgreSQL has open is none of the server's business. Marked, not closed: the
            // standard library reports a failure of exec through a descriptor of its own.
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            Ok(())
        });
    }
    process.spawn()
}

/// The program and its arguments, from the settings.
fn command() -> Vec<OsString> {
    let mut command: Vec<OsString> = vec![program().into()];
    let mut option = |name: &str, value: &OsStr| {
        command.push(name.into());
        command.push(value.to_owned());
    };
    option("--socket", OsStr::new(SOCKET));
    if let Some(dir) = guc::model_dir() {
        option("--model-dir", dir.as_os_str());
    }
    if let Some(library) = guc::onnxruntime_library().or_else(library_beside_the_extension) {
        option("--onnxruntime", library.as_os_str());
    }
    for (name, value) in [
        ("--provider", guc::execution_provider().to_owned()),
        ("--gpu-device", guc::gpu_device().to_string()),
        ("--gpu-memory-limit", guc::gpu_memory_limit().to_string()),
        ("--max-image-bytes", guc::max_image_bytes().to_string()),
        ("--max-image-pixels", guc::max_image_pixels().to_string()),
        ("--batch-size", guc::batch_size().to_string()),
        ("--queue-bytes", guc::queue_memory().to_string()),
        ("--threads", guc::threads().to_string()),
    ] {
        option(name, OsStr::new(&value));
    }
    if guc::require_gpu() {
        command.push("--require-gpu".into());
    }
    command
}

fn program() -> PathBuf {
    guc::server_program().unwrap_or_else(|| {
        // SAFETY: the path of the postgres program, set when it starts and never changed.
        let postgres = unsafe { path(&raw const pg_sys::my_exec_path as *const std::ffi::c_char) };
        postgres.with_file_name(PROGRAM)
    })
}

fn library_beside_the_extension() -> Option<PathBuf> {
    // SAFETY: PostgreSQL's library directory, set when it starts and never changed.
    let directory = unsafe { path(&raw const pg_sys::pkglib_path as *const std::ffi::c_char) };
    Some(directory.join(LIBRARY)).filter(|library| library.exists())
}

/// # Safety
///
/// `text` is a C string.
unsafe fn path(text: *const std::ffi::c_char) -> PathBuf {
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    Path::new(OsStr::from_bytes(text.to_bytes())).to_owned()
}
