//! The server process as it should be and as it is.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use pgrx::prelude::*;

use super::command::{self, OnDisk, Version};
use super::log::{self, Log};
use super::place::{self, Socket, remove_socket};
use super::watch::{self, Watch};
use super::{DIRECTORY, LOOK_AGAIN, SOCKET};
use crate::pg::guc;

/// How long the server may take to end when it is asked to, and again when it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// A server that lived this long gets a prompt restart.
const STEADY: Duration = Duration::from_secs(60);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// The same for a server that had begun to listen. What killed it came with a request, and sessions bear
/// with no more than a few deaths of one request: the others should not wait long for that.
const LONGEST_DELAY_ONCE_READY: Duration = Duration::from_secs(1);

/// Keeps one server process running.
#[derive(Debug)]
pub struct Server {
    running: Option<Running>,
    on_disk: OnDisk,
    /// What was started last.
    tried: Option<Wanted>,
    starts: u32,
    /// When to start the next one, and how long the one after that will wait.
    not_before: Option<Instant>,
    delay: Duration,
}

/// What should run; where that changes, what runs is out of date.
#[derive(Debug, PartialEq)]
struct Wanted {
    command: Vec<OsString>,
    version: Option<Version>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    log: Log,
    watch: Watch,
    socket: Socket,
    since: Instant,
    killed: bool,
}

impl Server {
    pub fn new() -> Self {
        Server {
            running: None,
            on_disk: OnDisk::new(&command::program()),
            tried: None,
            starts: 0,
            not_before: None,
            delay: Duration::ZERO,
        }
    }

    /// What becomes readable when there is something to do.
    pub fn descriptor(&self) -> Option<RawFd> {
        self.running.as_ref().and_then(|running| running.log.descriptor())
    }

    /// Makes what is into what should be; returns how long to wait for the next look.
    pub fn keep_running(&mut self) -> Duration {
        let command = command::command();
        let version = self.on_disk.version(Path::new(&command[0]));
        let wanted = Wanted { command, version };
        let changed = self.tried.as_ref().filter(|tried| **tried != wanted);
        if let Some(running) = &mut self.running {
            running.log.pass_on();
            match running.child.try_wait() {
                Ok(None) => match changed {
                    None if running.socket.is_lost() => {
                        warning!(
                            "susx: restarting the inference process, for its socket in the directory \"{DIRECTORY}\" of the \
                             data directory is gone"
                        );
                        self.stop();
                        self.delay = Duration::ZERO;
                    }
                    None => return running.watch_over(),
                    Some(tried) => {
                        let what =
                            if tried.command == wanted.command { "a new program" } else { "new settings" };
                        log!("susx: restarting the inference process with {what}");
                        self.stop();
                        self.delay = Duration::ZERO;
                    }
                },
                Ok(Some(status)) => self.bury(status),
                Err(error) => {
                    warning!("susx: cannot watch the inference process: {error}");
                    return FIRST_DELAY;
                }
            }
        } else if changed.is_some() {
            // What failed before may work now.
            (self.not_before, self.delay) = (None, Duration::ZERO);
        }
        if let Some(wait) = self.not_before.and_then(|t| t.checked_duration_since(Instant::now())) {
            return wait.min(command::LOOK) + Duration::from_millis(1);
        }
        self.start(wanted.command)
    }

    fn start(&mut self, command: Vec<OsString>) -> Duration {
        if let Err(error) = place::prepare() {
            warning!("susx: cannot use the directory \"{DIRECTORY}\" of the data directory: {error}");
            self.wait_before_next(Duration::ZERO, LONGEST_DELAY);
            return FIRST_DELAY;
        }
        // Looked at before it is started: a replacement in between is noticed.
        let path = Path::new(&command[0]);
        self.on_disk = OnDisk::new(path);
        let version = self.on_disk.version(path);
        let wanted = Wanted { command, version };
        match spawn(&wanted.command, self.starts) {
            Ok((child, log)) => {
                let (watch, socket, since) = (Watch::new(), Socket::default(), Instant::now());
                self.running = Some(Running { child, log, watch, socket, since, killed: false });
                self.starts = self.starts.saturating_add(1);
            }
            Err(error) => {
                warning!("susx: cannot start {}: {error}", wanted.command[0].to_string_lossy());
                self.wait_before_next(Duration::ZERO, LONGEST_DELAY);
            }
        }
        self.tried = Some(wanted);
        FIRST_DELAY
    }

    fn bury(&mut self, status: ExitStatus) {
        let Some(mut running) = self.running.take() else { return };
        running.log.pass_on_the_rest();
        let was_ready = Path::new(SOCKET).exists();
        remove_socket();
        let lived = running.since.elapsed();
        warning!("susx: the inference process ended after {lived:.1?}: {status}");
        self.wait_before_next(lived, if was_ready { LONGEST_DELAY_ONCE_READY } else { LONGEST_DELAY });
    }

    /// A process that dies again and again is started less and less often; one that worked for a
    /// while is started again at once.
    fn wait_before_next(&mut self, lived: Duration, longest: Duration) {
        self.not_before = Some(Instant::now() + self.delay.min(longest));
        self.delay = match lived {
            lived if lived >= STEADY => Duration::ZERO,
            _ if self.delay.is_zero() => FIRST_DELAY,
            _ => (self.delay * 2).min(longest),
        };
    }

    /// Ends the process: asks it to, and kills it when it does not.
    pub fn stop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        // The end of its standard input asks it to end.
        drop(running.child.stdin.take());
        if !running.ends_within(GRACE) {
            // It has ended meanwhile, or it will.
            let _ = running.child.kill();
            if !running.ends_within(GRACE) {
                warning!("susx: the inference process {} cannot be killed", running.child.id());
            }
        }
        running.log.pass_on_the_rest();
        remove_socket();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Running {
    /// Kills a process that has not answered for too long; returns when to look again.
    fn watch_over(&mut self) -> Duration {
        let limit = guc::hang_timeout();
        if limit.is_zero() {
            self.watch = Watch::new();
            return command::LOOK;
        }
        let interval = watch::interval(limit);
        if self.watch.look(interval) > limit && !self.killed {
            warning!(
                "susx: the inference process {} has not answered for {limit:.1?} (susx.hang_timeout): \
                 killing it",
                self.child.id()
            );
            // It is buried when it has ended, by the next looks.
            self.killed = self.child.kill().is_ok();
        }
        interval.min(command::LOOK)
    }

    fn ends_within(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                return false;
            }
            // Else it might wait for ever to say something.
            self.log.pass_on();
            std::thread::sleep(LOOK_AGAIN);
        }
        true
    }
}

/// How often the server was started before is told to it, but is no reason to start another.
fn spawn(command: &[OsString], starts: u32) -> io::Result<(Child, Log)> {
    let supervisor = std::process::id();
    let (reader, writer) = log::pipe()?;
    let mut process = Command::new(&command[0]);
    process.args(&command[1..]).arg("--restarts").arg(starts.to_string());
    process.stdin(Stdio::piped()).stdout(writer.try_clone()?).stderr(writer);
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
    Ok((process.spawn()?, Log::new(reader)))
}
