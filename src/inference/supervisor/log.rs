//! The server's standard output and error, line by line into PostgreSQL's log.
//!
//! Only what fits into the pipe is read at a time, so that no flood of lines keeps the supervisor from
//! its other duties; a server that writes faster waits.

use std::io::{self, ErrorKind, PipeReader, Read};
use std::os::fd::{AsRawFd, RawFd};

use pgrx::prelude::*;
use susx_server::log_lines::{Level, Line, Splitter};

/// What one look reads: a pipe's usual capacity.
const READ_BYTES: usize = 64 << 10;
/// What is read of a server that has ended: more than a pipe holds, and an end for what its own
/// children, should a script have left some, go on writing.
const LAST_BYTES: usize = 2 << 20;

/// The reading end of the pipe that is both.
#[derive(Debug)]
pub struct Log {
    /// `None` after its end.
    pipe: Option<PipeReader>,
    lines: Splitter,
}

impl Log {
    /// The pipe must not block.
    pub fn new(pipe: PipeReader) -> Self {
        Log { pipe: Some(pipe), lines: Splitter::default() }
    }

    /// What to wait for.
    pub fn descriptor(&self) -> Option<RawFd> {
        self.pipe.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Passes on the lines that have arrived.
    pub fn pass_on(&mut self) {
        self.read(READ_BYTES);
    }

    /// Passes on the last words of a server that has ended.
    pub fn pass_on_the_rest(&mut self) {
        self.read(LAST_BYTES);
        self.lines.finish().iter().for_each(report);
        self.pipe = None;
    }

    fn read(&mut self, most: usize) {
        let mut buffer = [0; READ_BYTES];
        let mut left = most;
        while left > 0 {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(read) => {
                    left = left.saturating_sub(read);
                    self.lines.push(&buffer[..read]).iter().for_each(report);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    warning!("susx: cannot read what the inference process says: {error}");
                    self.pipe = None;
                }
            }
        }
    }
}

/// A pipe for a server's output; its end for us does not block.
pub fn pipe() -> io::Result<(PipeReader, io::PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    Ok((reader, writer))
}

fn report(line: &Line) {
    let text = &line.text;
    match line.level {
        Some(Level::Error | Level::Warn) => warning!("susx-server: {text}"),
        Some(Level::Info) | None => log!("susx-server: {text}"),
        Some(Level::Debug) => debug1!("susx-server: {text}"),
        Some(Level::Trace) => debug2!("susx-server: {text}"),
    }
}
