//! A backend's connection to the inference process.
//!
//! One connection per backend, kept between calls. The backend never blocks in a system call: it waits
//! on its latch, so that a cancel acts at once. A call takes the connection out of its place and puts
//! it back when it is done; an error or a cancel in between closes it, and the server drops what is
//! left of the request.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use serde_bytes::Bytes;
use susx_server::protocol::{self, Failure, Inputs, LENGTH_BYTES, Model, PROTOCOL_VERSION, Reply, Request};

use super::error::{Error, Result};
use super::vector::Vector;
use super::wait::{self, Interest};
use super::{guc, supervisor};

/// Inputs of one frame. Several frames make a call: the server works on one while the next arrives.
const CHUNK_INPUTS: usize = 64;
/// Bytes of one frame, unless a single input is larger.
const CHUNK_BYTES: usize = 4 << 20;
/// Frames that are sent before the first is answered.
const WINDOW: usize = 3;
const READ_BYTES: usize = 64 << 10;

/// The answer to one input.
pub type Embedding = Result<Vec<f32>, Failure>;

thread_local! {
    static IDLE: RefCell<Option<Connection>> = const { RefCell::new(None) };
}

/// Embeds image files.
pub fn embed_images(model: Option<&str>, images: &[&[u8]]) -> Result<Vec<Embedding>> {
    embed(
        model,
        images,
        |image| image.len(),
        |images| Inputs::Images(images.iter().copied().map(Bytes::new).collect()),
    )
}

/// Embeds texts.
pub fn embed_texts(model: Option<&str>, texts: &[&str]) -> Result<Vec<Embedding>> {
    embed(model, texts, |text| text.len(), |texts| Inputs::Texts(texts.to_vec()))
}

/// The answer to a single input.
pub fn only(embeddings: Vec<Embedding>) -> Result<Vector> {
    match embeddings.into_iter().next() {
        Some(Ok(embedding)) => Vector::new(embedding),
        Some(Err(failure)) => Err(Error::Server(failure)),
        None => Err(Error::Internal("the inference process gave no answer".to_owned())),
    }
}

/// What there is to know about one model, which is loaded for it.
pub fn describe(model: Option<&str>) -> Result<Model> {
    let chosen = chosen(model);
    match ask(|id| Request::Describe { id, model: chosen.as_deref() })? {
        Reply::Model { model, .. } => Ok(*model),
        other => Err(unexpected(&other)),
    }
}

/// Every model of the model directory.
pub fn models() -> Result<Vec<Model>> {
    match ask(|id| Request::Models { id })? {
        Reply::Models { models, .. } => Ok(models),
        other => Err(unexpected(&other)),
    }
}

/// The model that a call names, else `susx.model`, else none: then the server takes the only one.
fn chosen(model: Option<&str>) -> Option<String> {
    model.map(str::to_owned).or_else(guc::model)
}

fn ask<'a>(request: impl Fn(u64) -> Request<'a>) -> Result<Reply> {
    with_connection(|connection| {
        let id = connection.next_id();
        connection.send(&request(id))?;
        match connection.receive()? {
            Reply::Failed { failure, .. } => Ok(Err(Error::Server(failure))),
            reply => Ok(Ok(reply)),
        }
    })?
}

fn embed<'a, T>(
    model: Option<&str>,
    inputs: &'a [T],
    size: impl Fn(&T) -> usize,
    frame: impl Fn(&'a [T]) -> Inputs<'a>,
) -> Result<Vec<Embedding>> {
    let chosen = chosen(model);
    let model = chosen.as_deref();
    with_connection(|connection| {
        let mut embeddings = Vec::with_capacity(inputs.len());
        let mut rest = inputs;
        // Ids and sizes of the frames that are on their way.
        let mut sent = VecDeque::new();
        let mut early: Vec<(u64, Vec<Embedding>)> = Vec::new();
        loop {
            while !rest.is_empty() && sent.len() < WINDOW {
                let (chunk, later) = rest.split_at(batch_length(rest, CHUNK_INPUTS, CHUNK_BYTES, &size));
                let id = connection.next_id();
                connection.send(&Request::Embed { id, model, inputs: frame(chunk) })?;
                sent.push_back((id, chunk.len()));
                rest = later;
            }
            let Some(&(id, length)) = sent.front() else { return Ok(Ok(embeddings)) };
            let answer = match early.iter().position(|(early_id, _)| *early_id == id) {
                Some(place) => early.swap_remove(place).1,
                None => match connection.receive()? {
                    Reply::Embedded { id: other, embeddings } if other != id => {
                        early.push((other, embeddings));
                        continue;
                    }
                    Reply::Embedded { embeddings, .. } => embeddings,
                    Reply::Failed { failure, .. } => return Ok(Err(Error::Server(failure))),
                    other => return Ok(Err(unexpected(&other))),
                },
            };
            if answer.len() != length {
                let message = format!("{} embeddings came for {length} inputs", answer.len());
                return Ok(Err(Error::Internal(message)));
            }
            embeddings.extend(answer);
            sent.pop_front();
        }
    })?
}

/// How many of the inputs are no more than so many and so many bytes; at least one.
pub fn batch_length<T>(inputs: &[T], most: usize, most_bytes: usize, size: impl Fn(&T) -> usize) -> usize {
    let mut bytes = 0;
    let fits = inputs.iter().take(most).take_while(|input| {
        bytes += size(input);
        bytes <= most_bytes
    });
    fits.count().max(1)
}

fn unexpected(reply: &Reply) -> Error {
    Error::Internal(format!("the inference process sent an unexpected reply to request {}", reply.id()))
}

/// Runs a call, once more if the server goes away: embedding twice does no harm. The inner error is
/// the server's answer; the connection is good after it, unless replies are outstanding.
fn with_connection<T>(call: impl Fn(&mut Connection) -> Result<Result<T>, CallError>) -> Result<Result<T>> {
    let mut lost = None;
    for _ in 0..2 {
        let idle = IDLE.with(|idle| idle.borrow_mut().take());
        let mut connection = match idle {
            Some(connection) => connection,
            None => Connection::open()?,
        };
        match call(&mut connection) {
            Ok(answer) => {
                if answer.is_ok() || connection.outstanding == 0 {
                    IDLE.with(|idle| idle.replace(Some(connection)));
                }
                return Ok(answer);
            }
            Err(CallError::Lost(error)) => lost = Some(error),
            Err(CallError::Other(error)) => return Err(error),
        }
    }
    Err(Error::ConnectionLost(lost.unwrap_or_else(|| ErrorKind::ConnectionReset.into())))
}

/// Why a call has no answer.
#[derive(Debug)]
enum CallError {
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
struct Connection {
    stream: UnixStream,
    /// Frames that are not written yet, and how much of them is.
    unsent: Vec<u8>,
    written: usize,
    received: Vec<u8>,
    last_id: u64,
    /// Requests without a reply.
    outstanding: usize,
}

impl Connection {
    /// Connects, starting the server where it does not run, and greets it. A server that goes away
    /// meanwhile, because it was just being killed say, is waited for like one that does not run.
    fn open() -> Result<Self> {
        let deadline = Instant::now() + guc::startup_timeout();
        loop {
            match Self::greet(supervisor::connect(deadline)?) {
                Ok(connection) => return Ok(connection),
                Err(CallError::Lost(error)) if Instant::now() >= deadline => {
                    return Err(Error::ConnectionLost(error));
                }
                Err(CallError::Lost(_)) => wait::for_time(supervisor::LOOK_AGAIN),
                Err(CallError::Other(error)) => return Err(error),
            }
        }
    }

    fn greet(stream: UnixStream) -> Result<Self, CallError> {
        let (unsent, received) = (Vec::new(), Vec::new());
        let mut connection = Connection { stream, unsent, written: 0, received, last_id: 0, outstanding: 0 };
        let library = env!("CARGO_PKG_VERSION");
        connection.send(&Request::Hello { protocol: PROTOCOL_VERSION, version: library })?;
        match connection.receive()? {
            Reply::Hello { protocol: PROTOCOL_VERSION, .. } => Ok(connection),
            Reply::Hello { version, .. } => {
                Err(CallError::Other(Error::Version { server: version, library }))
            }
            other => Err(CallError::Other(unexpected(&other))),
        }
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Puts a request on its way; it is written while replies are awaited.
    fn send(&mut self, request: &Request) -> Result<(), CallError> {
        self.unsent.extend(protocol::encode(request)?);
        self.outstanding += 1;
        Ok(())
    }

    fn receive(&mut self) -> Result<Reply, CallError> {
        loop {
            if let Some(reply) = self.parse()? {
                self.outstanding -= 1;
                return Ok(reply);
            }
            let wrote = self.write_some()?;
            let read = self.read_some()?;
            if !wrote && !read {
                let interest = Interest { read: true, write: self.written < self.unsent.len() };
                wait::for_socket(self.stream.as_raw_fd(), interest);
            }
        }
    }

    /// The next whole reply that has arrived.
    fn parse(&mut self) -> Result<Option<Reply>, CallError> {
        let Some(prefix) = self.received.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let end = LENGTH_BYTES + protocol::message_length(*prefix)?;
        let Some(message) = self.received.get(LENGTH_BYTES..end) else { return Ok(None) };
        let reply = protocol::decode(message)?;
        self.received.drain(..end);
        Ok(Some(reply))
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
            self.unsent.shrink_to(CHUNK_BYTES);
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
