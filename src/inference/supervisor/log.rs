//! Copies the server's standard output and standard error to PostgreSQL's log, line by line.
//!
//! The supervisor reads at most the capacity of a pipe at a time, so a flood of lines cannot keep it from its other
//! work. A server that writes faster has to wait.

use std::io::{self, ErrorKind, PipeReader, Read};
use std::os::fd::{AsRawFd, RawFd};

use pgrx::prelude::*;
use susx_server::log_lines::{Level, Line, Splitter};

/// Bytes to read at a time: the usual capacity of a pipe.
const READ_BYTES: usize = 64 << 10;
/// Bytes to read after the end of a server. More than a pipe holds, but limited: if a script starts the server, child
/// processes may outlive it and go on writing.
const REMAINING_BYTES: usize = 2 << 20;

/// The read end of the server's output.
#[derive(Debug)]
pub struct ServerOutput {
    /// `None` after the end of the output.
    pipe: Option<PipeReader>,
    lines: Splitter,
}

impl ServerOutput {
    /// The pipe must be in non-blocking mode.
    pub fn new(pipe: PipeReader) -> Self {
        ServerOutput { pipe: Some(pipe), lines: Splitter::default() }
    }

    /// The descriptor that becomes readable when there is output.
    pub fn descriptor(&self) -> Option<RawFd> {
        self.pipe.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Logs the lines that have arrived.
    pub fn log_new_lines(&mut self) {
        self.read(READ_BYTES);
    }

    /// Logs the remaining output of a server that has ended.
    pub fn log_remaining_lines(&mut self) {
        self.read(REMAINING_BYTES);
        self.lines.finish().iter().for_each(log_line);
        self.pipe = None;
    }

    fn read(&mut self, max_bytes: usize) {
        let mut buffer = [0; READ_BYTES];
        let mut left = max_bytes;
        while left > 0 {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(read) => {
                    left = left.saturating_sub(read);
                    self.lines.push(&buffer[..read]).iter().for_each(log_line);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    warning!("susx: cannot read the output of the inference process: {error}");
                    self.pipe = None;
                }
            }
        }
    }
}

/// A pipe for the output of a server. Its read end is in non-blocking mode.
pub fn pipe() -> io::Result<(PipeReader, io::PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    Ok((reader, writer))
}

fn log_line(line: &Line) {
    let text = &line.text;
    match line.level {
        Some(Level::Error | Level::Warn) => warning!("susx-server: {text}"),
        Some(Level::Info) | None => log!("susx-server: {text}"),
        Some(Level::Debug) => debug1!("susx-server: {text}"),
        Some(Level::Trace) => debug2!("susx-server: {text}"),
    }
}
