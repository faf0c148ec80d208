//! One backend's connection: a thread that reads its requests and one that writes its replies.
//!
//! Replies have their own thread so that no batching task waits for a backend that does not read.

use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::batching::embedding_service::EmbeddingService;
use crate::batching::embedding_task::{Text, check_text};
use crate::batching::fair_queue::ConnectionId;
use crate::batching::generation_service::GenerationJob;
use crate::batching::image_file::{self, ImageFile};
use crate::batching::request::{self, RequestContext};
use crate::batching::{image_infos, sheet, thumbnails};
use crate::limits;
use crate::models::registry::Registry;
use crate::protocol::{
    self, Failure, FailureKind, ImageRequest, Inputs, LENGTH_BYTES, Model, PROTOCOL_VERSION, ProtocolError,
    Reply, Request, ThumbnailRequest,
};
use crate::settings::Settings;
use crate::socket::budget::{Budget, Reservation, ReservationCount};
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
    #[error("a message of {length} bytes stopped after {arrived}, and other requests wait for its memory")]
    Stalled { length: usize, arrived: usize },
}

/// Longest pause in the middle of a message or reply while other requests wait for memory. After it the connection is
/// closed, and the backend sends its request again over a new one.
const PAUSE: Duration = Duration::from_secs(5);

/// State common to all connections.
pub struct Shared {
    pub(crate) registry: Registry,
    budget: Arc<Budget>,
    max_text_bytes: usize,
    /// How often the supervisor has restarted this process.
    restarts: u32,
}

impl Shared {
    /// State with an empty model cache.
    pub fn new(settings: Settings) -> Self {
        Shared {
            budget: Arc::new(Budget::new(settings.queue_megabytes << 20)),
            max_text_bytes: settings.max_text_bytes,
            restarts: settings.restarts,
            registry: Registry::new(settings),
        }
    }
}

/// Serves one backend until it disconnects.
pub fn serve(id: ConnectionId, stream: UnixStream, shared: &Shared) {
    match serve_requests(id, &stream, shared) {
        Ok(()) => {}
        // The backend reports this to its user, who can act on it.
        Err(error @ ConnectionError::Version(_)) => log::debug!("connection {id}: {error}"),
        Err(error) => log::warn!("connection {id}: {error}"),
    }
    // No one will read the remaining answers.
    shared.registry.forget(id);
}

fn serve_requests(id: ConnectionId, stream: &UnixStream, shared: &Shared) -> Result<(), ConnectionError> {
    let (replies, writer) = replies::replies(stream.try_clone()?, Arc::clone(&shared.budget), PAUSE);
    thread::Builder::new().name("replies".to_owned()).spawn(move || writer.work())?;

    let held = ReservationCount::default();
    // Back-pressure: the connection is not read while its next message does not fit into the budget.
    let next = || {
        let Some(length) = read_length(stream)? else { return Ok(None) };
        let Some(reservation) = shared.budget.admit(length, &held, || is_disconnected(stream)) else {
            return Ok(None);
        };
        let message = read_message(stream, length, &reservation)?;
        Ok::<_, ConnectionError>(Some((message, reservation)))
    };
    let Some((message, reservation)) = next()? else { return Ok(()) };
    greet(&message, &replies)?;
    drop(reservation);
    // Dropped when the backend disconnects, which cancels the work for it.
    let connected = Arc::new(());
    // Sessions that only ask for statistics are not counted as connections.
    let mut counted = None;
    while let Some((message, reservation)) = next()? {
        let connected = Arc::downgrade(&connected);
        let context =
            RequestContext { replies: replies.clone(), connected, reservation, arrived: Instant::now() };
        let request = protocol::decode(&message)?;
        if !matches!(request, Request::Stats { .. }) {
            counted.get_or_insert_with(stats::connection);
        }
        answer(id, request, &message, context, stream, shared)?;
    }
    Ok(())
}

/// Answers a request at once, or puts its inputs into the queue of its model.
fn answer(
    connection: ConnectionId,
    request: Request,
    message: &Bytes,
    context: RequestContext,
    stream: &UnixStream,
    shared: &Shared,
) -> Result<(), ConnectionError> {
    let registry = &shared.registry;
    let is_disconnected = || is_disconnected(stream);
    let reply = match request {
        Request::Hello { .. } => return Err(ConnectionError::NoGreeting),
        Request::Embed { id, inputs, .. } if inputs.count() == 0 => match inputs {
            Inputs::Images(_) => Reply::Embedded { id, embeddings: Vec::new() },
            Inputs::Texts(_) => Reply::EmbeddedTexts { id, embeddings: Vec::new() },
        },
        Request::EmbedPairs { id, images, .. } if images.is_empty() => {
            Reply::EmbeddedPairs { id, pairs: Vec::new() }
        }
        Request::Generate { id, requests, .. } if requests.is_empty() => {
            Reply::Generated { id, images: Vec::new() }
        }
        Request::Embed { id, model, inputs } => {
            let count = inputs.count();
            let service = check_count("inputs", count, limits::MAX_INPUTS)
                .and_then(|()| registry.embedder(model, is_disconnected));
            match service {
                Ok(service) => {
                    enqueue_inputs(&service, connection, id, inputs, message, context);
                    return Ok(());
                }
                Err(failure) => failed(id, count, failure),
            }
        }
        Request::EmbedPairs { id, model, likeness_model, images } => {
            let count = images.len();
            let services = check_count("inputs", count, limits::MAX_INPUTS)
                .and_then(|()| registry.embedder_pair(model, likeness_model, is_disconnected));
            match services {
                Ok(services) => {
                    let files = images.into_iter().map(|image| message.slice_ref(image));
                    let preprocessors = services.each_ref().map(|service| service.model.preprocessor());
                    let pairs = image_file::pairs(files, preprocessors);
                    let inputs = request::split_pairs(id, pairs, message.len(), context);
                    for (service, inputs) in services.iter().zip(inputs) {
                        service.images.push(connection, inputs);
                    }
                    return Ok(());
                }
                Err(failure) => failed(id, count, failure),
            }
        }
        Request::Generate { id, generator, requests } => {
            let count = requests.len();
            let service = check_image_requests(&requests, shared)
                .and_then(|()| registry.generator(generator, is_disconnected));
            match service {
                Ok(service) => {
                    let jobs = requests.into_iter().map(GenerationJob::from).collect();
                    service.images.push(connection, request::split(id, jobs, message.len(), context));
                    return Ok(());
                }
                Err(failure) => failed(id, count, failure),
            }
        }
        Request::Thumbnails { id, requests } => {
            let count = requests.len();
            let checked = check_count("images", count, limits::MAX_INPUTS)
                .and_then(|()| requests.iter().try_for_each(ThumbnailRequest::check));
            match checked {
                Ok(()) => {
                    let files = thumbnails::make(&requests, registry.decoding(), is_disconnected);
                    Reply::Thumbnails { id, files }
                }
                Err(failure) => failed(id, count, failure),
            }
        }
        Request::ImageInfos { id, images } => match check_count("images", images.len(), limits::MAX_INPUTS) {
            Ok(()) => Reply::ImageInfos {
                id,
                infos: image_infos::read(&images, registry.decoding(), is_disconnected),
            },
            Err(failure) => failed(id, images.len(), failure),
        },
        Request::Sheet { id, sheet } => match sheet::draw(&sheet, registry.decoding(), is_disconnected) {
            Ok(file) => Reply::Sheet { id, file },
            Err(failure) => failed(id, sheet.cells.len(), failure),
        },
        Request::Describe { id, model } => {
            let service = registry.embedder(model, is_disconnected);
            described(id, service.map(|service| registry.describe(&service.model)))
        }
        Request::DescribeGenerator { id, generator } => {
            let service = registry.generator(generator, is_disconnected);
            described(id, service.map(|service| registry.describe_generator(&service)))
        }
        Request::Models { id } => match registry.list() {
            Ok(models) => Reply::Models { id, models },
            Err(failure) => failed(id, 0, failure),
        },
        Request::Stats { id } => Reply::Stats { id, stats: Box::new(report(shared)) },
    };
    context.replies.send(reply, Some(context.reservation));
    Ok(())
}

/// Puts images or texts into the queue of their model.
fn enqueue_inputs(
    service: &EmbeddingService,
    connection: ConnectionId,
    id: u64,
    inputs: Inputs,
    message: &Bytes,
    context: RequestContext,
) {
    match inputs {
        Inputs::Images(images) => {
            // Slices of the message: nothing is copied.
            let images = images.into_iter().map(|image| ImageFile::from(message.slice_ref(image))).collect();
            service.images.push(connection, request::split(id, images, message.len(), context));
        }
        Inputs::Texts(texts) => {
            let texts = texts.into_iter().map(|text| Text::of(message, text)).collect();
            service.texts.push(connection, request::split(id, texts, message.len(), context));
        }
    }
}

/// Checks the number of image requests, their parameters and the length of their texts.
fn check_image_requests(requests: &[ImageRequest], shared: &Shared) -> Result<(), Failure> {
    check_count("images", requests.len(), limits::MAX_IMAGE_REQUESTS)?;
    for request in requests {
        request.check()?;
        for text in [&request.prompt, &request.negative_prompt] {
            check_text(text, shared.max_text_bytes)?;
        }
    }
    Ok(())
}

fn check_count(what: &str, count: usize, limit: usize) -> Result<(), Failure> {
    if count <= limit {
        return Ok(());
    }
    Err(Failure::new(FailureKind::Protocol, format!("a message has {count} {what}, the limit is {limit}")))
}

/// The reply to a question about a model.
fn described(id: u64, model: Result<Model, Failure>) -> Reply {
    match model {
        Ok(model) => Reply::Model { id, model: Box::new(model) },
        Err(failure) => failed(id, 0, failure),
    }
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

/// Counts a failed request and builds its reply; `inputs` is the number of inputs that fail with it.
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

/// Reads a message of `length` bytes, for which memory has been reserved.
///
/// A sender may pause (a backend may be waiting for a lock), but not for longer than [`PAUSE`] while other requests
/// wait for memory.
fn read_message(
    stream: &UnixStream,
    length: usize,
    reservation: &Reservation,
) -> Result<Bytes, ConnectionError> {
    let mut message = Vec::with_capacity(length);
    stream.set_read_timeout(Some(PAUSE))?;
    loop {
        let arrived = message.len();
        match stream.take((length - arrived) as u64).read_to_end(&mut message) {
            Ok(_) if message.len() < length => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
            Ok(_) => break,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if message.len() == arrived && reservation.has_waiters() {
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
fn is_disconnected(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut fds, Some(&now)), Ok(n) if n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::io::Write;

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap_or_else(|error| panic!("{error}"))
    }

    fn reservation(budget: &Budget, bytes: usize) -> Reservation {
        budget
            .take(bytes, &ReservationCount::default(), || false)
            .unwrap_or_else(|| panic!("the connection is open"))
    }

    #[test]
    fn a_message_arrives_in_pieces() {
        let (mut sender, receiver) = pair();
        let budget = Budget::new(1000);
        let reservation = reservation(&budget, 6);
        thread::scope(|scope| {
            let reader = scope.spawn(|| read_message(&receiver, 6, &reservation));
            for piece in [b"abc", b"def"] {
                thread::sleep(Duration::from_millis(20));
                assert!(sender.write_all(piece).is_ok());
            }
            assert!(matches!(reader.join(), Ok(Ok(message)) if message == "abcdef"));
        });
    }

    #[test]
    fn a_stalled_message_is_dropped_only_if_another_request_waits() {
        let (mut sender, receiver) = pair();
        let budget = Budget::new(1000);
        thread::scope(|scope| {
            let stalled = reservation(&budget, 700);
            let reader = scope.spawn(|| {
                let read = read_message(&receiver, 700, &stalled);
                drop(stalled);
                read
            });
            assert!(sender.write_all(b"the beginning").is_ok());
            // No other request waits, so the pause may be of any length.
            thread::sleep(PAUSE + Duration::from_millis(500));
            assert!(!reader.is_finished());
            let other = scope.spawn(|| budget.take(700, &ReservationCount::default(), || false).is_some());
            assert_eq!(other.join().ok(), Some(true));
            let end = reader.join();
            assert!(matches!(end, Ok(Err(ConnectionError::Stalled { length: 700, arrived: 13 }))), "{end:?}");
        });
    }

    #[test]
    fn a_request_for_nothing_is_answered_without_loading_a_model() {
        let options =
            ["susx-server", "--socket", "unused", "--max-image-bytes", "1", "--max-image-pixels", "1"];
        let settings =
            Settings::parse_from(options.iter().chain(&["--batch-size", "1", "--queue-megabytes", "1"]));
        let (mut ours, theirs) = pair();
        for request in [
            Request::Hello { protocol: PROTOCOL_VERSION, version: "" },
            Request::Embed { id: 7, model: Some("none"), inputs: Inputs::Texts(Vec::new()) },
            Request::Generate { id: 8, generator: Some("none"), requests: Vec::new() },
            Request::EmbedPairs { id: 9, model: None, likeness_model: "none", images: Vec::new() },
        ] {
            let frame = protocol::encode(&request).unwrap_or_else(|error| panic!("{error}"));
            assert!(ours.write_all(&frame).is_ok());
        }
        assert!(ours.shutdown(std::net::Shutdown::Write).is_ok());
        serve(1, theirs, &Shared::new(settings));
        let mut received = Vec::new();
        assert!(ours.read_to_end(&mut received).is_ok());
        let mut next = || protocol::take_reply(&mut received).unwrap_or_else(|error| panic!("{error}"));
        assert!(matches!(next(), Some(Reply::Hello { .. })));
        assert!(matches!(next(), Some(Reply::EmbeddedTexts { id: 7, embeddings }) if embeddings.is_empty()));
        assert!(matches!(next(), Some(Reply::Generated { id: 8, images }) if images.is_empty()));
        assert!(matches!(next(), Some(Reply::EmbeddedPairs { id: 9, pairs }) if pairs.is_empty()));
        assert!(next().is_none());
    }
}
