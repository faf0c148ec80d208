//! Keeps the server process running, as the settings say.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use pgrx::prelude::*;

use super::command::{self, FileVersion, ProgramFile};
use super::heartbeat::{self, Heartbeat};
use super::log::{self, ServerOutput};
use super::socket_directory::{self, SocketWatch, remove_socket};
use super::{DIRECTORY, SOCKET};
use crate::pg::guc;

/// How long the server may take to exit after a request to, and again after it is killed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often to check whether the server has exited.
const EXIT_INTERVAL: Duration = Duration::from_millis(10);
/// A server that ran at least this long is restarted without delay.
const STABLE_RUN: Duration = Duration::from_secs(60);
/// Delay of the second restart in succession. It doubles with every further one.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Longest delay of a restart.
const MAX_DELAY: Duration = Duration::from_secs(30);
/// Longest delay after a server that accepted connections. A request made it crash, and sessions give up such requests
/// after a few crashes, so other sessions need not wait long.
const MAX_DELAY_AFTER_READY: Duration = Duration::from_secs(1);

/// Keeps one server process running.
#[derive(Debug)]
pub struct Server {
    running: Option<Running>,
    program_file: ProgramFile,
    /// What was started last, successfully or not.
    last_started: Option<Target>,
    starts: u32,
    /// Whether the first server loads a model at once.
    warms_up: bool,
    /// The earliest time of the next start.
    not_before: Option<Instant>,
    /// Delay before the start after the next.
    delay: Duration,
}

/// What should run. If it changes, the running server is out of date.
#[derive(Debug, PartialEq)]
struct Target {
    command: Vec<OsString>,
    version: Option<FileVersion>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    output: ServerOutput,
    heartbeat: Heartbeat,
    socket: SocketWatch,
    started: Instant,
    killed: bool,
}

impl Server {
    pub fn new(warms_up: bool) -> Self {
        Server {
            warms_up,
            running: None,
            program_file: ProgramFile::new(&command::program()),
            last_started: None,
            starts: 0,
            not_before: None,
            delay: Duration::ZERO,
        }
    }

    /// A descriptor that becomes readable when there is something to do.
    pub fn descriptor(&self) -> Option<RawFd> {
        self.running.as_ref().and_then(|running| running.output.descriptor())
    }

    /// Starts, restarts or kills the server if necessary. Returns how long to wait until the next check.
    pub fn keep_running(&mut self) -> Duration {
        let command = command::command();
        let version = self.program_file.version(Path::new(&command[0]));
        let target = Target { command, version };
        let outdated = self.last_started.as_ref().filter(|started| **started != target);
        if let Some(running) = &mut self.running {
            running.output.log_new_lines();
            match running.child.try_wait() {
                Ok(None) => {
                    if let Some(started) = outdated {
                        let what =
                            if started.command == target.command { "a new program" } else { "new settings" };
                        log!("susx: restarting the inference process with {what}");
                    } else if running.socket.is_lost() {
                        warning!(
                            "susx: restarting the inference process, because its socket in the directory \"{DIRECTORY}\" of \
                             the data directory is gone"
                        );
                    } else {
                        return running.kill_if_hanging();
                    }
                    self.stop();
                    self.delay = Duration::ZERO;
                }
                Ok(Some(status)) => self.handle_exit(status),
                Err(error) => {
                    warning!("susx: cannot watch the inference process: {error}");
                    return FIRST_DELAY;
                }
            }
        } else if outdated.is_some() {
            // What failed with the old program or settings may work with the new ones.
            (self.not_before, self.delay) = (None, Duration::ZERO);
        }
        if let Some(wait) = self.not_before.and_then(|t| t.checked_duration_since(Instant::now())) {
            return wait.min(command::CHECK_INTERVAL) + Duration::from_millis(1);
        }
        self.start(target.command)
    }

    /// Starts the server. Returns how long to wait until the next check.
    fn start(&mut self, command: Vec<OsString>) -> Duration {
        if let Err(error) = socket_directory::prepare() {
            warning!("susx: cannot use the directory \"{DIRECTORY}\" of the data directory: {error}");
            self.wait_before_next(Duration::ZERO, MAX_DELAY);
            return FIRST_DELAY;
        }
        // Checked before the start, so that a replacement in between is noticed.
        let path = Path::new(&command[0]);
        self.program_file = ProgramFile::new(path);
        let version = self.program_file.version(path);
        let target = Target { command, version };
        // Only once: a server that a model crashes must not load it again.
        let warm_up = (self.warms_up && self.starts == 0).then(|| guc::model().unwrap_or_default());
        match spawn(&target.command, self.starts, warm_up) {
            Ok((child, output)) => {
                self.running = Some(Running {
                    child,
                    output,
                    heartbeat: Heartbeat::new(),
                    socket: SocketWatch::default(),
                    started: Instant::now(),
                    killed: false,
                });
                self.starts = self.starts.saturating_add(1);
            }
            Err(error) => {
                warning!("susx: cannot start {}: {error}", target.command[0].to_string_lossy());
                self.wait_before_next(Duration::ZERO, MAX_DELAY);
            }
        }
        self.last_started = Some(target);
        FIRST_DELAY
    }

    /// Cleans up after a server that has ended.
    fn handle_exit(&mut self, status: ExitStatus) {
        let Some(mut running) = self.running.take() else { return };
        running.output.log_remaining_lines();
        let was_ready = Path::new(SOCKET).exists();
        remove_socket();
        let lived = running.started.elapsed();
        warning!("susx: the inference process ended after {lived:.1?}: {status}");
        self.wait_before_next(lived, if was_ready { MAX_DELAY_AFTER_READY } else { MAX_DELAY });
    }

    /// Sets the time of the next start. A server that keeps crashing is restarted after longer and longer delays, and
    /// one that ran for a while without delay.
    fn wait_before_next(&mut self, lived: Duration, max_delay: Duration) {
        self.not_before = Some(Instant::now() + self.delay.min(max_delay));
        self.delay = match lived {
            lived if lived >= STABLE_RUN => Duration::ZERO,
            _ if self.delay.is_zero() => FIRST_DELAY,
            _ => (self.delay * 2).min(max_delay),
        };
    }

    /// Stops the process: asks it to exit, and kills it if it does not.
    pub fn stop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        // The server exits at the end of its standard input.
        drop(running.child.stdin.take());
        if !running.ends_within(EXIT_TIMEOUT) {
            // An error means that it has just ended.
            let _ = running.child.kill();
            if !running.ends_within(EXIT_TIMEOUT) {
                warning!("susx: the inference process {} cannot be killed", running.child.id());
            }
        }
        running.output.log_remaining_lines();
        remove_socket();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Running {
    /// Kills a process that has not answered for too long. Returns how long to wait until the next check.
    fn kill_if_hanging(&mut self) -> Duration {
        let limit = guc::hang_timeout();
        if limit.is_zero() {
            self.heartbeat = Heartbeat::new();
            return command::CHECK_INTERVAL;
        }
        let interval = heartbeat::interval(limit);
        if self.heartbeat.check(interval) > limit && !self.killed {
            warning!(
                "susx: the inference process {} has not answered for {limit:.1?} (susx.hang_timeout): \
                 killing it",
                self.child.id()
            );
            // A later check finds that it has ended.
            self.killed = self.child.kill().is_ok();
        }
        interval.min(command::CHECK_INTERVAL)
    }

    fn ends_within(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                return false;
            }
            // A full pipe would keep the process from exiting.
            self.output.log_new_lines();
            std::thread::sleep(EXIT_INTERVAL);
        }
        true
    }
}

/// Starts the server. What these options say is not part of the command, where a change would cause a restart.
fn spawn(command: &[OsString], starts: u32, warm_up: Option<String>) -> io::Result<(Child, ServerOutput)> {
    let supervisor = std::process::id();
    let (reader, writer) = log::pipe()?;
    let mut process = Command::new(&command[0]);
    process.args(&command[1..]).arg("--restarts").arg(starts.to_string());
    if let Some(model) = warm_up {
        process.arg("--warm-up").arg(model);
    }
    process.stdin(Stdio::piped()).stdout(writer.try_clone()?).stderr(writer);
    // SAFETY: between fork and exec, this makes only async-signal-safe system calls.
    unsafe {
        process.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The supervisor may have ended before that call.
            if libc::getppid() as u32 != supervisor {
                return Err(ErrorKind::BrokenPipe.into());
            }
            // The server must not inherit PostgreSQL's open files. They are marked, not closed, because the standard
            // library reports a failure of exec through its own descriptor.
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            Ok(())
        });
    }
    Ok((process.spawn()?, ServerOutput::new(reader)))
}
