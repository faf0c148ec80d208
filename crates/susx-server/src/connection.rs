//! One backend's connection: a thread that reads its requests and one that writes its replies.
//!
//! The writer is apart so that no lane ever waits for a backend that does not read.

use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::budget::Budget;
use crate::protocol::{
    self, Failure, FailureKind, Inputs, LENGTH_BYTES, PROTOCOL_VERSION, ProtocolError, Reply, Request,
};
use crate::queue::ConnectionId;
use crate::registry::Registry;
use crate::request;
use crate::stats;

/// Why a connection ends before the backend closes it.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error("the first message is not a greeting")]
    NoGreeting,
    #[error("the library speaks protocol {0}, this server protocol {PROTOCOL_VERSION}")]
    Version(u32),
}

/// What all connections share.
pub struct Shared {
    pub registry: Registry,
    pub budget: Arc<Budget>,
    /// How often this process was started again.
    pub restarts: u32,
}

/// Serves one backend until it goes.
pub fn serve(id: ConnectionId, stream: UnixStream, shared: &Shared) {
    match converse(id, &stream, shared) {
        Ok(()) => {}
        // The session says so, to the one who can do something about it.
        Err(error @ ConnectionError::Version(_)) => log::debug!("connection {id}: {error}"),
        Err(error) => log::warn!("connection {id}: {error}"),
    }
    // Nobody is left to read the answers.
    shared.registry.forget(id);
}

fn converse(id: ConnectionId, stream: &UnixStream, shared: &Shared) -> Result<(), ConnectionError> {
    let mut reader = BufReader::new(stream);
    let (replies, written) = mpsc::channel();
    let writer_stream = stream.try_clone()?;
    thread::Builder::new().name("replies".to_owned()).spawn(move || write_replies(writer_stream, written))?;

    let mut message = Vec::new();
    if !read_message(&mut reader, &mut message)? {
        return Ok(());
    }
    greet(&message, &replies)?;
    // Counts once it asks for something: one who only looks is no session at work.
    let mut counted = None;
    while read_message(&mut reader, &mut message)? {
        let arrived = Instant::now();
        let request = protocol::decode(&message)?;
        // Answered even where the queue is full.
        if let Request::Stats { id } = request {
            send(&replies, Reply::Stats { id, stats: Box::new(report(shared)) });
            continue;
        }
        counted.get_or_insert_with(stats::connection);
        // While its bytes wait, this connection reads no further: that is the back-pressure.
        let Some(share) = shared.budget.take(message.len(), || has_left(stream)) else { return Ok(()) };
        match request {
            Request::Hello { .. } => return Err(ConnectionError::NoGreeting),
            Request::Embed { id: request, model, inputs } => match shared.registry.get(model) {
                Ok(running) => match inputs {
                    Inputs::Images(images) => {
                        let images = images.into_iter().map(|image| image.to_vec()).collect();
                        running.images.push(id, request::split(request, arrived, images, share, &replies));
                    }
                    Inputs::Texts(texts) => {
                        let texts = texts.into_iter().map(str::to_owned).collect();
                        running.texts.push(id, request::split(request, arrived, texts, share, &replies));
                    }
                },
                Err(failure) => {
                    stats::server().failed(inputs.count(), &failure.message);
                    send(&replies, Reply::Failed { id: request, failure });
                }
            },
            Request::Describe { id: request, model } => {
                let reply = match shared.registry.get(model) {
                    Ok(running) => Reply::Model {
                        id: request,
                        model: Box::new(shared.registry.describe(&running.model)),
                    },
                    Err(failure) => failed(request, failure),
                };
                send(&replies, reply);
            }
            Request::Models { id: request } => {
                let reply = match shared.registry.list() {
                    Ok(models) => Reply::Models { id: request, models },
                    Err(failure) => failed(request, failure),
                };
                send(&replies, reply);
            }
            // It is answered above.
            Request::Stats { .. } => {}
        }
        // A single huge request does not keep its memory for the rest of the connection.
        message.shrink_to(1 << 20);
    }
    Ok(())
}

fn greet(message: &[u8], replies: &Sender<Reply>) -> Result<(), ConnectionError> {
    let Ok(Request::Hello { protocol, .. }) = protocol::decode(message) else {
        return Err(ConnectionError::NoGreeting);
    };
    // Both versions are in the reply, so that the backend can say what to do.
    let version = env!("CARGO_PKG_VERSION").to_owned();
    send(replies, Reply::Hello { protocol: PROTOCOL_VERSION, version });
    if protocol == PROTOCOL_VERSION { Ok(()) } else { Err(ConnectionError::Version(protocol)) }
}

fn report(shared: &Shared) -> protocol::Stats {
    protocol::Stats {
        restarts: shared.restarts,
        models: shared.registry.loaded(),
        queue_bytes: shared.budget.used() as u64,
        ..stats::server().report()
    }
}

fn failed(id: u64, failure: Failure) -> Reply {
    stats::server().failed(0, &failure.message);
    Reply::Failed { id, failure }
}

/// Reads one frame; false at the end of the connection.
fn read_message(reader: &mut impl Read, message: &mut Vec<u8>) -> Result<bool, ConnectionError> {
    let mut prefix = [0; LENGTH_BYTES];
    match reader.read(&mut prefix)? {
        0 => return Ok(false),
        n => reader.read_exact(&mut prefix[n..])?,
    }
    let length = protocol::message_length(prefix)?;
    message.clear();
    // Memory grows with what really arrives, not with what the length claims.
    if reader.take(length as u64).read_to_end(message)? < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(true)
}

fn write_replies(mut stream: UnixStream, replies: Receiver<Reply>) {
    for reply in replies {
        let frame = protocol::encode(&reply).or_else(|error| {
            // Too long to say: every request can be answered with its failure.
            let failure = Failure::new(FailureKind::Protocol, error);
            protocol::encode(&Reply::Failed { id: reply.id(), failure })
        });
        match frame.map(|frame| stream.write_all(&frame)) {
            Ok(Ok(())) => {}
            // The reader sees the end of the connection too, and cleans up.
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

fn send(replies: &Sender<Reply>, reply: Reply) {
    // The writer ends with the connection: then nobody wants the reply.
    let _ = replies.send(reply);
}

/// Whether the backend has closed its side.
fn has_left(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut fds, Some(&now)), Ok(n) if n > 0)
}
