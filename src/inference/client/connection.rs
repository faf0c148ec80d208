//! A connection to the inference process, without blocking system calls.

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
use crate::pg::embedding_model::EmbeddingModel;
use crate::pg::error::{Error, Result};
use crate::pg::guc;
use crate::pg::version::LIBRARY;
use crate::pg::wait::{self, Interest};

const READ_BYTES: usize = 64 << 10;
/// Capacity of the buffers that is kept between calls, in bytes.
const KEPT_BYTES: usize = 1 << 20;

thread_local! {
    /// This backend's connection while no call uses it.
    static IDLE: RefCell<Option<Connection>> = const { RefCell::new(None) };
}

/// Why a request failed.
#[derive(Debug)]
pub enum CallError {
    /// The connection to the server was lost. A new server may answer.
    Lost(io::Error),
    /// A retry would not help.
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

/// A connection after the exchange of greetings.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    /// Frames to send, of which the first `written` bytes have been sent.
    unsent: Vec<u8>,
    written: usize,
    received: Vec<u8>,
    last_id: u64,
    /// Requests without a reply.
    outstanding: usize,
    /// Digests that the server has reported. Only kept if the server never unloads a model, because reloading reads the
    /// files again.
    digests: HashMap<String, [u8; 32]>,
}

impl Connection {
    /// This backend's idle connection, else a new one.
    pub fn take() -> Result<Self> {
        let idle = IDLE.with(|idle| idle.borrow_mut().take());
        idle.map_or_else(Self::open, Ok)
    }

    /// Keeps the connection for the next call. If replies are outstanding, closes it instead, and the server drops the
    /// unfinished requests.
    pub fn put_back(mut self) {
        if self.outstanding == 0 {
            self.unsent.shrink_to(KEPT_BYTES);
            self.received.shrink_to(KEPT_BYTES);
            IDLE.with(|idle| idle.replace(Some(self)));
        }
    }

    /// Connects and exchanges greetings. Starts the server if it is not running. If the server ends while this waits,
    /// for example because it was killed, waits for the next one.
    fn open() -> Result<Self> {
        let deadline = Instant::now() + guc::startup_timeout();
        loop {
            match Self::greet(supervisor::connect(deadline)?) {
                Ok(connection) => return Ok(connection),
                Err(CallError::Lost(error)) if Instant::now() >= deadline => {
                    return Err(InferenceError::ConnectionLost(error).into());
                }
                Err(CallError::Lost(_)) => wait::for_time(supervisor::CONNECT_INTERVAL),
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

    /// An error if the server has loaded files of the model with another digest. Only while no reply is outstanding.
    pub fn check_model(&mut self, model: &EmbeddingModel) -> Result<(), CallError> {
        let Some(expected) = &model.sha256 else { return Ok(()) };
        match self.digest(&model.name)? {
            Some(found) if found[..] != expected[..] => {
                let (owner, model) = (model.owner.clone(), model.name.clone());
                Err(CallError::Other(InferenceError::ModelChanged { owner, model }.into()))
            }
            // A model that cannot be loaded has no digest. The request to embed will report why.
            _ => Ok(()),
        }
    }

    /// The digest of a model's files. The server loads the model if necessary; `None` if it cannot.
    fn digest(&mut self, model: &str) -> Result<Option<[u8; 32]>, CallError> {
        if let Some(&digest) = self.digests.get(model) {
            return Ok(Some(digest));
        }
        let id = self.next_id();
        self.send(&Request::Describe { id, model: Some(model) })?;
        match self.receive()? {
            Reply::Model { model: found, .. } => {
                // A model is loaded again after it was unloaded, or when its broken encoder has been repaired.
                let may_change = guc::unloads_models() || found.broken.is_some();
                if let Some(digest) = found.sha256.filter(|_| !may_change) {
                    self.digests.insert(model.to_owned(), digest);
                }
                Ok(found.sha256)
            }
            Reply::Failed { .. } => Ok(None),
            other => Err(CallError::Other(unexpected(&other))),
        }
    }

    /// A new id for a request.
    pub fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Queues a request. It is written to the socket by [`receive`](Self::receive) and [`poll`](Self::poll).
    pub fn send(&mut self, request: &Request) -> Result<(), CallError> {
        // A caller that always has more to send would otherwise keep every frame it has ever sent.
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

    /// Writes and reads what is possible without waiting. Returns the next reply if it has arrived completely.
    pub fn poll(&mut self) -> Result<Option<Reply>, CallError> {
        loop {
            if let Some(reply) = protocol::take_reply(&mut self.received)? {
                // A report of steps is not the last reply to its request.
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

    /// Writes what the socket accepts now. Returns whether it accepted anything.
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

    /// Reads what has arrived. Returns whether there was anything.
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

/// `None` if the call would have blocked.
fn unless_blocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}
