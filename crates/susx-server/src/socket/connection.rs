//! One backend's connection: a thread that reads its requests and one that writes its replies.
//!
//! The writer is apart so that no task ever waits for a backend that does not read.

use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::batching::embedding_task::{Text, check_text};
use crate::batching::fair_queue::ConnectionId;
use crate::batching::generation_service::GenerationJob;
use crate::batching::request::{self, Sent};
use crate::limits;
use crate::models::registry::Registry;
use crate::protocol::{
    self, Failure, FailureKind, Inputs, LENGTH_BYTES, PROTOCOL_VERSION, Picture, ProtocolError, Reply,
    Request,
};
use crate::settings::Settings;
use crate::socket::budget::{Budget, Holdings, Reservation};
use crate::socket::replies::{self, ReplySender};
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
    #[error("a message of {length} bytes stopped after {arrived}, and others wait for its memory")]
    Stalled { length: usize, arrived: usize },
}

/// How long a sender may pause in the middle of a message while others wait for the room that it takes.
/// Then its connection is closed. The backend sends its request again over a new one.
const PAUSE: Duration = Duration::from_secs(5);

/// What all connections share.
pub struct Shared {
    pub(crate) registry: Registry,
    budget: Arc<Budget>,
    max_text_bytes: usize,
    /// How often this process was started again.
    restarts: u32,
}

impl Shared {
    /// Without any model yet.
    pub fn new(settings: Settings) -> Self {
        Shared {
            budget: Arc::new(Budget::new(settings.queue_megabytes << 20)),
            max_text_bytes: settings.max_text_bytes,
            restarts: settings.restarts,
            registry: Registry::new(settings),
        }
    }
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
    let (replies, writer) = replies::replies(stream.try_clone()?, Arc::clone(&shared.budget), PAUSE);
    thread::Builder::new().name("replies".to_owned()).spawn(move || writer.work())?;

    let holder = Holdings::default();
    // While there is no room for its next message, this connection reads no further: that is the
    // back-pressure.
    let next = || {
        let Some(length) = read_length(stream)? else { return Ok(None) };
        let Some(share) = shared.budget.admit(length, &holder, || has_left(stream)) else { return Ok(None) };
        let message = read_message(stream, length, &share)?;
        Ok::<_, ConnectionError>(Some((message, share)))
    };
    let Some((message, share)) = next()? else { return Ok(()) };
    greet(&message, &replies)?;
    drop(share);
    // Gone when the backend is: nobody goes on working for it.
    let presence = Arc::new(());
    // Counts once it asks for something: one who only looks is no session at work.
    let mut counted = None;
    while let Some((message, share)) = next()? {
        let presence = Arc::downgrade(&presence);
        let sent = Sent { replies: replies.clone(), presence, share, arrived: Instant::now() };
        let request = protocol::decode(&message)?;
        if !matches!(request, Request::Stats { .. }) {
            counted.get_or_insert_with(stats::connection);
        }
        answer(id, request, &message, sent, stream, shared)?;
    }
    Ok(())
}

/// Answers a request, or puts what is in it into its model's queue.
fn answer(
    connection: ConnectionId,
    request: Request,
    message: &Bytes,
    sent: Sent,
    stream: &UnixStream,
    shared: &Shared,
) -> Result<(), ConnectionError> {
    let registry = &shared.registry;
    let has_left = || has_left(stream);
    let bytes = message.len();
    let reply = match request {
        Request::Hello { .. } => return Err(ConnectionError::NoGreeting),
        Request::Embed { id, inputs, .. } if inputs.count() == 0 => {
            Reply::Embedded { id, embeddings: Vec::new() }
        }
        Request::Generate { id, pictures, .. } if pictures.is_empty() => {
            Reply::Generated { id, images: Vec::new() }
        }
        Request::Embed { id, inputs, .. } if inputs.count() > limits::MAX_INPUTS => {
            let count = inputs.count();
            failed(id, count, too_many("inputs", count, limits::MAX_INPUTS))
        }
        Request::Generate { id, pictures, .. } if pictures.len() > limits::MAX_PICTURES => {
            let count = pictures.len();
            failed(id, count, too_many("pictures", count, limits::MAX_PICTURES))
        }
        Request::Embed { id, model, inputs } => match registry.embedder(model, has_left) {
            Ok(running) => {
                match inputs {
                    Inputs::Images(images) => {
                        // They stay where they are, in the message.
                        let images = images.into_iter().map(|image| message.slice_ref(image)).collect();
                        running.images.push(connection, request::split(id, images, bytes, sent));
                    }
                    Inputs::Texts(texts) => {
                        let texts = texts.into_iter().map(|text| Text::of(message, text)).collect();
                        running.texts.push(connection, request::split(id, texts, bytes, sent));
                    }
                }
                return Ok(());
            }
            Err(failure) => failed(id, inputs.count(), failure),
        },
        Request::Generate { id, generator, pictures } => {
            let checked = pictures.iter().try_for_each(|picture| check(picture, shared));
            match checked.and_then(|()| registry.generator(generator, has_left)) {
                Ok(running) => {
                    let pictures = pictures.into_iter().map(GenerationJob::from).collect();
                    running.pictures.push(connection, request::split(id, pictures, bytes, sent));
                    return Ok(());
                }
                Err(failure) => failed(id, pictures.len(), failure),
            }
        }
        Request::Describe { id, model } => match registry.embedder(model, has_left) {
            Ok(running) => Reply::Model { id, model: Box::new(registry.describe(&running.model)) },
            Err(failure) => failed(id, 0, failure),
        },
        Request::DescribeGenerator { id, generator } => match registry.generator(generator, has_left) {
            Ok(running) => Reply::Model { id, model: Box::new(registry.describe_generator(&running)) },
            Err(failure) => failed(id, 0, failure),
        },
        Request::Models { id } => match registry.list() {
            Ok(models) => Reply::Models { id, models },
            Err(failure) => failed(id, 0, failure),
        },
        Request::Stats { id } => Reply::Stats { id, stats: Box::new(report(shared)) },
    };
    sent.replies.send(reply, Some(sent.share));
    Ok(())
}

/// Whether a picture can be asked for at all.
fn check(picture: &Picture, shared: &Shared) -> Result<(), Failure> {
    picture.check()?;
    for text in [&picture.prompt, &picture.negative_prompt] {
        check_text(text, shared.max_text_bytes)?;
    }
    Ok(())
}

fn too_many(what: &str, count: usize, most: usize) -> Failure {
    Failure::new(FailureKind::Protocol, format!("a message has {count} {what}, the limit is {most}"))
}

fn greet(message: &[u8], replies: &ReplySender) -> Result<(), ConnectionError> {
    let Ok(Request::Hello { protocol, .. }) = protocol::decode(message) else {
        return Err(ConnectionError::NoGreeting);
    };
    // Both versions are in the reply, so that the backend can say what to do.
    let version = env!("CARGO_PKG_VERSION").to_owned();
    replies.send(Reply::Hello { protocol: PROTOCOL_VERSION, version }, None);
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

/// The failure of a request with so many inputs.
fn failed(id: u64, inputs: usize, failure: Failure) -> Reply {
    stats::server().failed(inputs, &failure.message);
    Reply::Failed { id, failure }
}

/// The length of the next message; `None` at the end of the connection.
fn read_length(mut stream: &UnixStream) -> Result<Option<usize>, ConnectionError> {
    let mut prefix = [0; LENGTH_BYTES];
    match stream.read(&mut prefix)? {
        0 => return Ok(None),
        n => stream.read_exact(&mut prefix[n..])?,
    }
    Ok(Some(protocol::message_length(prefix)?))
}

/// Reads a message, for which there is room in the budget.
///
/// Its memory is reserved, but used only as the bytes arrive. A sender may take its time between two of
/// them (a backend may be waiting for a lock), but not for longer than [`PAUSE`] while others wait.
fn read_message(stream: &UnixStream, length: usize, share: &Reservation) -> Result<Bytes, ConnectionError> {
    let mut message = Vec::with_capacity(length);
    stream.set_read_timeout(Some(PAUSE))?;
    loop {
        let arrived = message.len();
        match stream.take((length - arrived) as u64).read_to_end(&mut message) {
            Ok(_) if message.len() < length => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
            Ok(_) => break,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if message.len() == arrived && share.has_waiters() {
                    return Err(ConnectionError::Stalled { length, arrived });
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    stream.set_read_timeout(None)?;
    Ok(message.into())
}

/// Whether the backend has closed its side.
fn has_left(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut fds, Some(&now)), Ok(n) if n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap_or_else(|error| panic!("{error}"))
    }

    fn share(budget: &Budget, bytes: usize) -> Reservation {
        budget.take(bytes, &Holdings::default(), || false).unwrap_or_else(|| panic!("nobody has left"))
    }

    #[test]
    fn a_message_arrives_in_pieces() {
        let (mut sender, receiver) = pair();
        let budget = Budget::new(1000);
        let share = share(&budget, 6);
        thread::scope(|scope| {
            let reader = scope.spawn(|| read_message(&receiver, 6, &share));
            for piece in [b"abc", b"def"] {
                thread::sleep(Duration::from_millis(20));
                assert!(sender.write_all(piece).is_ok());
            }
            assert!(matches!(reader.join(), Ok(Ok(message)) if message == "abcdef"));
        });
    }

    #[test]
    fn who_stops_in_the_middle_loses_the_room_only_to_others() {
        let (mut sender, receiver) = pair();
        let budget = Budget::new(1000);
        thread::scope(|scope| {
            let stalled = share(&budget, 700);
            let reader = scope.spawn(|| {
                let read = read_message(&receiver, 700, &stalled);
                drop(stalled);
                read
            });
            assert!(sender.write_all(b"the beginning").is_ok());
            // Nobody else is there: it may stop for as long as it likes.
            thread::sleep(PAUSE + Duration::from_millis(500));
            assert!(!reader.is_finished());
            let other = scope.spawn(|| budget.take(700, &Holdings::default(), || false).is_some());
            assert_eq!(other.join().ok(), Some(true));
            let end = reader.join();
            assert!(matches!(end, Ok(Err(ConnectionError::Stalled { length: 700, arrived: 13 }))), "{end:?}");
        });
    }
}
