//! Reads the statistics of the inference process, without starting it and without waiting long.
//!
//! This uses its own connection, so that it neither disturbs the session's connection nor waits behind its requests.

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

/// How long to wait for the reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(3);

/// State of a running inference process.
#[derive(Debug)]
pub struct ServerState {
    /// `None` if its queue of new connections is full.
    pub pid: Option<i32>,
    /// `None` if it does not reply.
    pub stats: Option<Stats>,
}

/// State of the inference process; `None` if it is not running.
pub fn server_state() -> Result<Option<ServerState>> {
    let deadline = Instant::now() + REPLY_TIMEOUT;
    let stream = loop {
        match supervisor::try_connect() {
            Ok(stream) => break stream,
            Err(error) if supervisor::is_absent(&error) => return Ok(None),
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                return Err(InferenceError::ConnectionLost(error).into());
            }
            Err(_) if Instant::now() >= deadline => return Ok(Some(ServerState { pid: None, stats: None })),
            Err(_) => wait::for_time(supervisor::CONNECT_INTERVAL),
        }
    };
    // The kernel knows the process that created the socket, even if that process hangs.
    let peer = rustix::net::sockopt::socket_peercred(&stream).map_err(Error::internal)?;
    let pid = Some(peer.pid.as_raw_nonzero().get());
    match request_stats(stream, deadline)? {
        Outcome::Stats(stats) => Ok(Some(ServerState { pid, stats: Some(*stats) })),
        Outcome::Timeout => Ok(Some(ServerState { pid, stats: None })),
        // The process has just ended.
        Outcome::Closed => Ok(None),
    }
}

/// Outcome of a request for statistics.
enum Outcome {
    Stats(Box<Stats>),
    /// No reply by the deadline.
    Timeout,
    /// The server closed the connection.
    Closed,
}

fn request_stats(mut stream: UnixStream, deadline: Instant) -> Result<Outcome> {
    let mut requests = protocol::encode(&Request::Hello { protocol: PROTOCOL_VERSION, version: LIBRARY })?;
    requests.extend(protocol::encode(&Request::Stats { id: 1 })?);
    // Does not block: the socket's buffer is empty.
    if stream.write_all(&requests).is_err() {
        return Ok(Outcome::Closed);
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
                Reply::Stats { stats, .. } => return Ok(Outcome::Stats(stats)),
                other => {
                    return Err(Error::internal(format_args!(
                        "an unexpected reply to request {}",
                        other.id()
                    )));
                }
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(Outcome::Closed),
            Ok(read) => received.extend_from_slice(&buffer[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(Outcome::Timeout);
                }
                wait::for_socket_or_time(stream.as_raw_fd(), Interest { read: true, write: false }, left);
            }
            Err(_) => return Ok(Outcome::Closed),
        }
    }
}
