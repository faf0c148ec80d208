//! One connection to the inference process: frames out, replies in, and never a system call that blocks.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use susx_server::protocol::{self, PROTOCOL_VERSION, Reply, Request};

use super::unexpected;
use crate::inference::error::InferenceError;
use crate::inference::supervisor;
use crate::pg::error::{Error, Result};
use crate::pg::guc;
use crate::pg::version::LIBRARY;
use crate::pg::wait::{self, Interest};

const READ_BYTES: usize = 64 << 10;
/// Buffers that have grown larger than this for one call are given back after it.
const KEPT_BYTES: usize = 1 << 20;

thread_local! {
    /// The connection of this backend while no call uses it.
    static IDLE: RefCell<Option<Connection>> = const { RefCell::new(None) };
}

/// Why there is no reply.
#[derive(Debug)]
pub enum CallError {
    /// The server has gone: a new one may answer.
    Lost(io::Error),
    Other(Error),
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        CallError::Lost(error)
    }
}

impl From<protocol::ProtocolError> for CallError {
    fn from(error: protocol::ProtocolError) -> Self {
        CallError::Other(error.into())
    }
}

#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    /// Frames that are not written yet, and how much of them is.
    unsent: Vec<u8>,
    written: usize,
    received: Vec<u8>,
    last_id: u64,
    /// Requests without a reply.
    outstanding: usize,
    /// Digests of the models that were asked for. A process that unloads none loads each once.
    digests: HashMap<String, [u8; 32]>,
}

impl Connection {
    /// The idle connection of this backend, else a new one.
    pub fn take() -> Result<Self> {
        let idle = IDLE.with(|idle| idle.borrow_mut().take());
        idle.map_or_else(Self::open, Ok)
    }

    /// Keeps the connection for the next call. One with replies on their way is closed instead, and
    /// the server drops what is left of the requests.
    pub fn put_back(mut self) {
        if self.outstanding == 0 {
            self.unsent.shrink_to(KEPT_BYTES);
            self.received.shrink_to(KEPT_BYTES);
            IDLE.with(|idle| idle.replace(Some(self)));
        }
    }

    /// Connects, starting the server where it does not run, and greets it. A server that goes away
    /// meanwhile, because it was just being killed say, is waited for like one that does not run.
    fn open() -> Result<Self> {
        let deadline = Instant::now() + guc::startup_timeout();
        loop {
            match Self::greet(supervisor::connect(deadline)?) {
                Ok(connection) => return Ok(connection),
                Err(CallError::Lost(error)) if Instant::now() >= deadline => {
                    return Err(InferenceError::ConnectionLost(error).into());
                }
                Err(CallError::Lost(_)) => wait::for_time(supervisor::LOOK_AGAIN),
                Err(CallError::Other(error)) => return Err(error),
            }
        }
    }

    fn greet(stream: UnixStream) -> Result<Self, CallError> {
        let (unsent, received) = (Vec::new(), Vec::new());
        let mut connection = Connection {
            stream,
            unsent,
            written: 0,
            received,
            last_id: 0,
            outstanding: 0,
            digests: HashMap::new(),
        };
        connection.send(&Request::Hello { protocol: PROTOCOL_VERSION, version: LIBRARY })?;
        match connection.receive()? {
            Reply::Hello { protocol: PROTOCOL_VERSION, .. } => Ok(connection),
            Reply::Hello { version, .. } => {
                Err(CallError::Other(InferenceError::Version { server: version, library: LIBRARY }.into()))
            }
            other => Err(CallError::Other(unexpected(&other))),
        }
    }

    /// The digest of a model's files, which is loaded for it; `None` if it cannot be. Only while no request
    /// is without a reply.
    pub fn digest(&mut self, model: &str) -> Result<Option<[u8; 32]>, CallError> {
        if let Some(&digest) = self.digests.get(model) {
            return Ok(Some(digest));
        }
        let id = self.next_id();
        self.send(&Request::Describe { id, model: Some(model) })?;
        match self.receive()? {
            Reply::Model { model: found, .. } => {
                if let Some(digest) = found.sha256.filter(|_| guc::model_idle_timeout().is_zero()) {
                    self.digests.insert(model.to_owned(), digest);
                }
                Ok(found.sha256)
            }
            Reply::Failed { .. } => Ok(None),
            other => Err(CallError::Other(unexpected(&other))),
        }
    }

    pub fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Puts a request on its way; it is written while replies are awaited.
    pub fn send(&mut self, request: &Request) -> Result<(), CallError> {
        // Whoever always has another frame to send would keep all that it ever sent.
        if self.written > self.unsent.len() / 2 {
            self.unsent.drain(..self.written);
            self.written = 0;
        }
        protocol::append(request, &mut self.unsent)?;
        self.outstanding += 1;
        Ok(())
    }

    /// Waits for the next reply.
    pub fn receive(&mut self) -> Result<Reply, CallError> {
        loop {
            if let Some(reply) = self.poll()? {
                return Ok(reply);
            }
            let interest = Interest { read: true, write: self.written < self.unsent.len() };
            wait::for_socket(self.stream.as_raw_fd(), interest);
        }
    }

    /// Writes and reads what goes without waiting; the next reply if a whole one is there.
    pub fn poll(&mut self) -> Result<Option<Reply>, CallError> {
        loop {
            if let Some(reply) = protocol::take_reply(&mut self.received)? {
                // One more is to come.
                if !matches!(reply, Reply::Denoised { .. }) {
                    self.outstanding -= 1;
                }
                return Ok(Some(reply));
            }
            let wrote = self.write_some()?;
            let read = self.read_some()?;
            if !wrote && !read {
                return Ok(None);
            }
        }
    }

    /// Writes what the socket takes now; whether it took anything.
    fn write_some(&mut self) -> io::Result<bool> {
        let Some(rest) = self.unsent.get(self.written..).filter(|rest| !rest.is_empty()) else {
            return Ok(false);
        };
        let Some(written) = unless_blocked(self.stream.write(rest))? else { return Ok(false) };
        self.written += written;
        if self.written == self.unsent.len() {
            self.unsent.clear();
            self.written = 0;
        }
        Ok(true)
    }

    /// Reads what has arrived; whether there was anything.
    fn read_some(&mut self) -> io::Result<bool> {
        let mut buffer = [0; READ_BYTES];
        match unless_blocked(self.stream.read(&mut buffer))? {
            None => Ok(false),
            Some(0) => Err(ErrorKind::UnexpectedEof.into()),
            Some(read) => {
                self.received.extend_from_slice(&buffer[..read]);
                Ok(true)
            }
        }
    }
}

fn unless_blocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}
