//! Asking the inference process how it is: without starting it, and without waiting long.
//!
//! On a connection of its own, so that it neither disturbs the session's nor waits behind its requests.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use susx_server::protocol::{self, PROTOCOL_VERSION, Reply, Request, Stats};

use super::error::InferenceError;
use super::supervisor;
use crate::pg::error::{Error, Result};
use crate::pg::version::LIBRARY;
use crate::pg::wait::{self, Interest};

/// A process that has not answered by then has something else to do.
const PATIENCE: Duration = Duration::from_secs(3);

/// An inference process that is there.
#[derive(Debug)]
pub struct Seen {
    /// `None` where even its queue of connections is full.
    pub pid: Option<i32>,
    /// `None` where it does not answer.
    pub stats: Option<Stats>,
}

/// The inference process, if one runs.
pub fn look() -> Result<Option<Seen>> {
    let deadline = Instant::now() + PATIENCE;
    let stream = loop {
        match supervisor::try_connect() {
            Ok(stream) => break stream,
            Err(error) if supervisor::is_absent(&error) => return Ok(None),
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                return Err(InferenceError::ConnectionLost(error).into());
            }
            Err(_) if Instant::now() >= deadline => return Ok(Some(Seen { pid: None, stats: None })),
            Err(_) => wait::for_time(supervisor::LOOK_AGAIN),
        }
    };
    // Of the process that made the socket; it need not do anything for that.
    let peer = rustix::net::sockopt::socket_peercred(&stream).map_err(Error::internal)?;
    let pid = Some(peer.pid.as_raw_nonzero().get());
    match converse(stream, deadline)? {
        Answer::Stats(stats) => Ok(Some(Seen { pid, stats: Some(*stats) })),
        Answer::Silence => Ok(Some(Seen { pid, stats: None })),
        // It has just ended.
        Answer::Goodbye => Ok(None),
    }
}

enum Answer {
    Stats(Box<Stats>),
    Silence,
    Goodbye,
}

fn converse(mut stream: UnixStream, deadline: Instant) -> Result<Answer> {
    let mut question = protocol::encode(&Request::Hello { protocol: PROTOCOL_VERSION, version: LIBRARY })?;
    question.extend(protocol::encode(&Request::Stats { id: 1 })?);
    // Into an empty buffer: it fits.
    if stream.write_all(&question).is_err() {
        return Ok(Answer::Goodbye);
    }
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        while let Some(reply) = protocol::take_reply(&mut received)? {
            match reply {
                Reply::Hello { protocol: PROTOCOL_VERSION, .. } => {}
                Reply::Hello { version, .. } => {
                    return Err(InferenceError::Version { server: version, library: LIBRARY }.into());
                }
                Reply::Stats { stats, .. } => return Ok(Answer::Stats(stats)),
                other => {
                    return Err(Error::internal(format_args!(
                        "an unexpected reply to request {}",
                        other.id()
                    )));
                }
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(Answer::Goodbye),
            Ok(read) => received.extend_from_slice(&buffer[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(Answer::Silence);
                }
                wait::for_socket_or_time(stream.as_raw_fd(), Interest { read: true, write: false }, left);
            }
            Err(_) => return Ok(Answer::Goodbye),
        }
    }
}
