//! Embeddings and generated images, computed while the caller does something else.
//!
//! The caller submits batches ahead and takes their answers in the same order. Several frames are in flight at any
//! time, so the server has work while the caller processes answers.
//!
//! If the server crashes, all unanswered inputs are sent again to the next server. One of them may have caused the
//! crash, so they are sent in small frames and then one at a time. An input that was in flight alone at
//! [`CRASHES_PER_INPUT`] crashes gets a failure, and the others get their answers.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::time::Duration;

use susx_server::protocol::{Failure, FailureKind, Reply};

use super::connection::{CallError, Connection};
use super::payload::{ImageVectors, Payload};
use super::unexpected;
use crate::inference::error::InferenceError;
use crate::limits;
use crate::pg::embedding_model::EmbeddingModel;
use crate::pg::error::{Error, Result};
use crate::pg::wait;

/// Maximum size of a frame, in bytes. A single larger input still makes a frame.
const FRAME_BYTES: usize = 4 << 20;
/// Maximum number of inputs in a frame after a first crash.
const RETRY_INPUTS: usize = 8;
/// Crashes tolerated per input.
const CRASHES_PER_INPUT: u32 = 3;
/// Connections that may be lost in succession before any input was sent.
const LOST_CONNECTIONS: u32 = 10;
/// Longest pause before a retry. Several sessions may have been connected to the same server. They retry at random
/// times, so that a harmless input is less likely to share a server with a harmful one again.
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// The answer to one input.
pub type Answer<T> = Result<<T as Payload>::Product, Failure>;

/// Batches in progress. If it is dropped before all answers have arrived, the server drops the rest of the work.
#[derive(Debug)]
pub struct Stream<T: Payload> {
    model: Option<String>,
    /// The model whose digest is checked on every new connection; `None` if any files will do.
    bound_to: Option<EmbeddingModel>,
    /// The model that embeds images for their likeness, too. Its digest is checked as well.
    likeness: Option<EmbeddingModel>,
    connection: Option<Connection>,
    /// Inputs of all batches that the caller has not taken yet, oldest first. They are numbered from `first`.
    inputs: VecDeque<Input<T>>,
    first: u64,
    /// Lengths of these batches.
    batches: VecDeque<usize>,
    /// Every input below this number has been sent or answered.
    next: u64,
    frames: Vec<Frame>,
    recovery: Option<Recovery>,
}

#[derive(Debug)]
struct Input<T: Payload> {
    payload: T,
    answer: Option<Answer<T>>,
}

/// Consecutive inputs that have been sent together and have no answers yet.
#[derive(Debug)]
struct Frame {
    id: u64,
    first: u64,
    length: usize,
    /// Denoising steps done so far, over all inputs of the frame.
    steps: u64,
}

/// State after a crash of the server, while the input that caused it is being searched for.
#[derive(Debug)]
struct Recovery {
    /// Inputs below this number were in flight at a crash.
    until: u64,
    /// Maximum number of inputs in a frame.
    max_inputs: usize,
    /// How often the server crashed on the input that is now first.
    crashes: u32,
    /// Whether an input has been given up and no server has answered anything since.
    gave_up: bool,
}

impl<T: Payload> Stream<T> {
    /// A stream to the named model, else to the default one for this type of input.
    pub fn new(model: Option<&str>) -> Self {
        Stream::with(T::model(model), None)
    }

    /// A stream to the model of a classifier or a column. Submitting and waiting are an error if the server has loaded
    /// other files of that name.
    pub fn of(model: &EmbeddingModel) -> Self {
        Stream::with(Some(model.name.clone()), Some(model.clone()))
    }

    fn with(model: Option<String>, bound_to: Option<EmbeddingModel>) -> Self {
        Stream {
            model,
            bound_to,
            likeness: None,
            connection: None,
            inputs: VecDeque::new(),
            first: 0,
            batches: VecDeque::new(),
            next: 0,
            frames: Vec::new(),
            recovery: None,
        }
    }

    /// Submits a single batch and waits for its answers, one per input.
    pub fn run(mut self, batch: Vec<T>) -> Result<Vec<Answer<T>>> {
        self.submit(batch)?;
        Ok(self.next()?.unwrap_or_default())
    }

    /// Number of batches that were submitted and not taken yet.
    pub fn pending(&self) -> usize {
        self.batches.len()
    }

    /// Adds a batch. Does not wait for answers.
    pub fn submit(&mut self, batch: Vec<T>) -> Result<()> {
        limits::check_model_name(self.model.as_deref())?;
        limits::check_model_name(self.likeness.as_ref().map(|model| model.name.as_str()))?;
        self.batches.push_back(batch.len());
        let input = |payload: T| Input { answer: payload.too_large().map(Err), payload };
        self.inputs.extend(batch.into_iter().map(input));
        self.advance(|connection| connection.poll())?;
        Ok(())
    }

    /// Sends and receives what is possible without waiting. To be called now and then during other long work, so that
    /// the server does not run out of inputs.
    pub fn poll(&mut self) -> Result<()> {
        self.advance(|connection| connection.poll())
    }

    /// Waits for the oldest batch and returns its answers, one per input; `None` if there is no batch.
    pub fn next(&mut self) -> Result<Option<Vec<Answer<T>>>> {
        let Some(&length) = self.batches.front() else { return Ok(None) };
        while !self.is_ready() {
            self.wait()?;
        }
        self.batches.pop_front();
        self.first += length as u64;
        // After a crash, the last inputs of the batch may already have answers and need not be sent again.
        self.next = self.next.max(self.first);
        // All of these have answers.
        Ok(Some(self.inputs.drain(..length).filter_map(|input| input.answer).collect()))
    }

    /// Whether all answers of the oldest batch have arrived. True if there is no batch.
    pub fn is_ready(&self) -> bool {
        let length = self.batches.front().copied().unwrap_or(0);
        self.inputs.iter().take(length).all(|input| input.answer.is_some())
    }

    /// Waits for the next reply: answers, or a report of denoising steps.
    pub fn wait(&mut self) -> Result<()> {
        self.advance(|connection| connection.receive().map(Some))
    }

    /// Number of answers that were not taken yet, and of denoising steps done on inputs without an answer.
    pub fn progress(&self) -> (usize, u64) {
        let answered = self.inputs.iter().filter(|input| input.answer.is_some()).count();
        (answered, self.frames.iter().map(|frame| frame.steps).sum())
    }

    /// Fills the window and processes at most one reply, which `receive` gets.
    fn advance(
        &mut self,
        receive: impl Fn(&mut Connection) -> Result<Option<Reply>, CallError>,
    ) -> Result<()> {
        let step = |stream: &mut Self| {
            let Some(connection) = stream.fill()? else { return Ok(()) };
            match receive(connection)? {
                Some(reply) => stream.process(reply),
                None => Ok(()),
            }
        };
        match step(self) {
            Ok(()) => Ok(()),
            Err(CallError::Lost(error)) => self.recover(error),
            Err(CallError::Other(error)) => Err(error),
        }
    }

    /// Sends frames until the window is full. Returns the connection if any frame awaits a reply.
    fn fill(&mut self) -> Result<Option<&mut Connection>, CallError> {
        let window = if self.recovery.is_some() { 1 } else { T::window() };
        while self.frames.len() < window {
            let Some((first, length)) = self.next_frame() else { break };
            let connection = match &mut self.connection {
                Some(connection) => connection,
                None => self.connection.insert(connect([&self.bound_to, &self.likeness])?),
            };
            let id = connection.next_id();
            let from = (first - self.first) as usize;
            let payloads = self.inputs.range(from..from + length).map(|input| &input.payload);
            let likeness = self.likeness.as_ref().map(|model| model.name.as_str());
            connection.send(&T::request(id, self.model.as_deref(), likeness, payloads))?;
            self.frames.push(Frame { id, first, length, steps: 0 });
            self.next = first + length as u64;
        }
        Ok(self.connection.as_mut().filter(|_| !self.frames.is_empty()))
    }

    /// The next frame to send: the number of its first input, and its length.
    fn next_frame(&self) -> Option<(u64, usize)> {
        let from = self.inputs.range((self.next - self.first) as usize..);
        // Inputs beyond a limit have an answer from the start. After a crash, others may have one too.
        let skipped = from.clone().take_while(|input| input.answer.is_some()).count();
        let first = self.next + skipped as u64;
        let max_inputs =
            self.recovery.as_ref().map_or(T::FRAME_INPUTS, |it| it.max_inputs.min(T::FRAME_INPUTS));
        let open = from.skip(skipped).take_while(|input| input.answer.is_none());
        match fitting(open.take(max_inputs).map(|input| input.payload.size()), FRAME_BYTES) {
            0 => None,
            length => Some((first, length)),
        }
    }

    /// Stores the answers of a reply with their inputs.
    fn process(&mut self, reply: Reply) -> Result<(), CallError> {
        let id = reply.id();
        let index = self.frames.iter().position(|frame| frame.id == id);
        let index = index.ok_or_else(|| CallError::Other(unexpected_id(id)))?;
        let answers = match reply {
            Reply::Denoised { steps, .. } => {
                self.frames[index].steps += u64::from(steps);
                return Ok(());
            }
            Reply::Failed { failure, .. } => return Err(CallError::Other(failure.into())),
            reply => T::answers(reply).map_err(|other| CallError::Other(unexpected(&other)))?,
        };
        let Frame { first, length, .. } = self.frames.swap_remove(index);
        if answers.len() != length {
            let message = format!("the inference process sent {} answers for {length} inputs", answers.len());
            return Err(CallError::Other(Error::internal(message)));
        }
        let from = (first - self.first) as usize;
        for (input, answer) in self.inputs.range_mut(from..from + length).zip(answers) {
            input.answer = Some(answer);
        }
        if let Some(recovery) = &mut self.recovery {
            recovery.crashes = 0;
            recovery.gave_up = false;
            if self.next >= recovery.until {
                self.recovery = None;
            }
        }
        Ok(())
    }

    /// After the loss of the server: prepares to send all unanswered inputs again.
    fn recover(&mut self, error: io::Error) -> Result<()> {
        self.connection = None;
        let frames = std::mem::take(&mut self.frames);
        let Some(first) = frames.iter().map(|frame| frame.first).min() else {
            return Err(InferenceError::ConnectionLost(error).into());
        };
        self.next = first;
        let max_inputs = if self.recovery.is_some() { 1 } else { RETRY_INPUTS };
        let end = frames.iter().map(|frame| frame.first + frame.length as u64).max().unwrap_or(first);
        let recovery =
            self.recovery.get_or_insert(Recovery { until: 0, max_inputs, crashes: 0, gave_up: false });
        recovery.until = recovery.until.max(end);
        recovery.max_inputs = max_inputs;
        if !matches!(frames[..], [Frame { length: 1, .. }]) {
            return Ok(());
        }
        recovery.crashes += 1;
        if recovery.crashes < CRASHES_PER_INPUT {
            // A single loss may be unrelated to the input: the server may have been stopped since the last call.
            if recovery.crashes > 1 {
                wait::for_time(random_pause());
            }
            return Ok(());
        }
        if recovery.gave_up {
            // Two inputs in succession crash the server, so the cause is not in the inputs.
            return Err(InferenceError::ConnectionLost(error).into());
        }
        recovery.crashes = 0;
        recovery.gave_up = true;
        if let Some(input) = self.inputs.get_mut((first - self.first) as usize) {
            input.answer = Some(Err(server_died(&error)));
        }
        if self.next + 1 >= recovery.until {
            self.recovery = None;
        }
        Ok(())
    }
}

impl<T: Payload<Product = ImageVectors>> Stream<T> {
    /// The stream that embeds its images by this model, too. Each image is sent once.
    pub fn with_likeness(mut self, model: &EmbeddingModel) -> Self {
        self.likeness = Some(model.clone());
        self
    }
}

impl<T: Payload> Drop for Stream<T> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.put_back();
        }
    }
}

/// A connection to a server whose files of the models have the expected digests.
fn connect(bound_to: [&Option<EmbeddingModel>; 2]) -> Result<Connection, CallError> {
    let mut lost = 0;
    loop {
        let mut connection = Connection::take().map_err(CallError::Other)?;
        match bound_to.into_iter().flatten().try_for_each(|model| connection.check_model(model)) {
            Ok(()) => return Ok(connection),
            // No input of this session was sent: the server has ended since the last call, or crashed on the input of
            // another session.
            Err(CallError::Lost(_)) if lost < LOST_CONNECTIONS => lost += 1,
            Err(error) => return Err(error),
        }
        if lost > 1 {
            wait::for_time(random_pause());
        }
    }
}

/// The number of inputs, from the first on, whose sizes add up to at most `max_bytes`. The first one is always
/// included.
fn fitting(sizes: impl Iterator<Item = usize>, max_bytes: usize) -> usize {
    let (mut count, mut bytes) = (0, 0);
    for size in sizes {
        bytes += size;
        if count > 0 && bytes > max_bytes {
            break;
        }
        count += 1;
    }
    count
}

/// Length of the next batch of these inputs: at most `max_inputs` and, unless it is a single input, `max_bytes`. At
/// least 1.
pub fn batch_length<T>(
    inputs: &[T],
    max_inputs: usize,
    max_bytes: usize,
    size: impl Fn(&T) -> usize,
) -> usize {
    fitting(inputs.iter().take(max_inputs).map(size), max_bytes).max(1)
}

fn server_died(error: &io::Error) -> Failure {
    Failure {
        kind: FailureKind::ServerDied,
        message: format!(
            "the inference process ended each of the {CRASHES_PER_INPUT} times that it processed this input: {error}"
        ),
        hint: Some("PostgreSQL's log may say why it ended.".to_owned()),
    }
}

/// A random time up to [`MAX_PAUSE`].
fn random_pause() -> Duration {
    // The keys of hash maps are the standard library's only random numbers.
    let random = RandomState::new().build_hasher().finish();
    MAX_PAUSE.mul_f64(random as f64 / u64::MAX as f64)
}

fn unexpected_id(id: u64) -> Error {
    Error::internal(format_args!("the inference process replied to request {id}, which was not sent"))
}
