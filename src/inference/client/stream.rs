//! Embeddings, and images, that are made while the caller does something else.
//!
//! The caller submits batches ahead and takes their answers in the same order; several frames are on
//! their way at any time, so that the server has work while the caller writes what it got.
//!
//! When the server dies, what it had not answered is sent again to the next one. It may be one of these
//! inputs that killed it, so they go in small frames and then one by one, until an input that was alone
//! has lost the server [`MOST_LOSSES`] times: that one gets a failure, and the others their embeddings.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::time::Duration;

use susx_server::protocol::{Failure, FailureKind, Reply};

use super::connection::{CallError, Connection};
use super::content::Content;
use super::own_model::OwnModel;
use super::unexpected;
use crate::inference::error::InferenceError;
use crate::limits;
use crate::pg::error::{Error, Result};
use crate::pg::wait;

/// Bytes of one frame, unless a single input is larger.
const FRAME_BYTES: usize = 4 << 20;
/// Inputs of one frame after the server has died.
const CAREFUL_INPUTS: usize = 8;
/// So many servers may one input cost.
const MOST_LOSSES: u32 = 3;
/// So many may go before they have got an input.
const MOST_LOSSES_UNASKED: u32 = 10;
/// Several sessions may have lost the same server: they try again at different times, so that an
/// innocent input does not meet the same end beside the same guilty one again.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The answer to one input.
pub type Answer<T> = Result<<T as Content>::Product, Failure>;

/// Batches whose answers are awaited. Dropping it while some are on their way makes the server drop
/// them too.
#[derive(Debug)]
pub struct Stream<T: Content> {
    model: Option<String>,
    /// Whose the embeddings are, if that says what the model must be.
    own: Option<OwnModel>,
    connection: Option<Connection>,
    /// The inputs of all batches that have not been taken, the oldest first; the number of the first.
    inputs: VecDeque<Input<T>>,
    first: u64,
    /// Lengths of these batches.
    batches: VecDeque<usize>,
    /// Every input below this number is sent or answered.
    next: u64,
    frames: Vec<Frame>,
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct Input<T: Content> {
    content: T,
    answer: Option<Answer<T>>,
}

/// Consecutive inputs that are on their way.
#[derive(Debug)]
struct Frame {
    id: u64,
    first: u64,
    length: usize,
    /// Denoising steps that are done, of all its inputs.
    steps: u64,
}

/// The server has died, and one of the inputs may have done it.
#[derive(Debug)]
struct Trouble {
    /// Inputs below this number were on their way.
    until: u64,
    /// Most inputs to send at a time.
    most: usize,
    /// How often the server died of what is now the first input.
    losses: u32,
    /// Whether an input has been blamed, and no server has answered anything since.
    has_blamed: bool,
}

impl<T: Content> Stream<T> {
    /// By the model of that name; which one, where there is no name, the kind of the content decides.
    pub fn new(model: Option<&str>) -> Self {
        let mut stream = Stream::empty();
        stream.model = T::model(model);
        stream
    }

    /// Embeddings by the model of what they are for.
    pub fn of(model: &OwnModel) -> Self {
        let mut stream = Stream::empty();
        stream.model = Some(model.name.clone());
        stream.own = Some(model.clone());
        stream
    }

    fn empty() -> Self {
        Stream {
            model: None,
            own: None,
            connection: None,
            inputs: VecDeque::new(),
            first: 0,
            batches: VecDeque::new(),
            next: 0,
            frames: Vec::new(),
            trouble: None,
        }
    }

    /// How many batches have been submitted and not taken.
    pub fn pending(&self) -> usize {
        self.batches.len()
    }

    /// Puts a batch on its way. Waits for no answer.
    pub fn submit(&mut self, batch: Vec<T>) -> Result<()> {
        limits::check_model_name(self.model.as_deref())?;
        self.batches.push_back(batch.len());
        let input = |content: T| Input { answer: content.refusal().map(Err), content };
        self.inputs.extend(batch.into_iter().map(input));
        self.advance(|connection| connection.poll())?;
        Ok(())
    }

    /// Sends and receives what goes without waiting: whoever takes long over something else calls it now
    /// and then, lest the server run out of work.
    pub fn poll(&mut self) -> Result<()> {
        self.advance(|connection| connection.poll())
    }

    /// Waits for the oldest batch and takes its answers, one per input; `None` if there is no batch.
    pub fn next(&mut self) -> Result<Option<Vec<Answer<T>>>> {
        let Some(&length) = self.batches.front() else { return Ok(None) };
        while !self.is_ready() {
            self.wait()?;
        }
        self.batches.pop_front();
        self.first += length as u64;
        // After a loss its last inputs had their answers before they were to be sent again.
        self.next = self.next.max(self.first);
        // Every one has its answer.
        Ok(Some(self.inputs.drain(..length).filter_map(|input| input.answer).collect()))
    }

    /// Whether the oldest batch has its answers; also if there is no batch.
    pub fn is_ready(&self) -> bool {
        let length = self.batches.front().copied().unwrap_or(0);
        self.inputs.iter().take(length).all(|input| input.answer.is_some())
    }

    /// Waits for whatever comes next: an answer, or the news that a denoising step is done.
    pub fn wait(&mut self) -> Result<()> {
        self.advance(|connection| connection.receive().map(Some))
    }

    /// How many inputs have an answer that was not taken, and how many denoising steps are done of those
    /// that have none.
    pub fn progress(&self) -> (usize, u64) {
        let answered = self.inputs.iter().filter(|input| input.answer.is_some()).count();
        (answered, self.frames.iter().map(|frame| frame.steps).sum())
    }

    /// Sends what the window has room for and takes in the replies that `receive` brings.
    fn advance(
        &mut self,
        receive: impl Fn(&mut Connection) -> Result<Option<Reply>, CallError>,
    ) -> Result<()> {
        let step = |stream: &mut Self| {
            let Some(connection) = stream.fill()? else { return Ok(false) };
            match receive(connection)? {
                Some(reply) => stream.take_in(reply).map(|()| true),
                None => Ok(false),
            }
        };
        match step(self) {
            Ok(_) => Ok(()),
            Err(CallError::Lost(error)) => self.recover(error),
            Err(CallError::Other(error)) => Err(error),
        }
    }

    /// Sends what the window has room for; the connection if any reply is awaited.
    fn fill(&mut self) -> Result<Option<&mut Connection>, CallError> {
        let window = if self.trouble.is_some() { 1 } else { T::window() };
        while self.frames.len() < window {
            let Some((first, length)) = self.next_frame() else { break };
            let connection = match &mut self.connection {
                Some(connection) => connection,
                None => self.connection.insert(connect(self.own.as_ref())?),
            };
            let id = connection.next_id();
            let from = (first - self.first) as usize;
            let contents = self.inputs.range(from..from + length).map(|input| &input.content);
            connection.send(&T::request(id, self.model.as_deref(), contents))?;
            self.frames.push(Frame { id, first, length, steps: 0 });
            self.next = first + length as u64;
        }
        Ok(self.connection.as_mut().filter(|_| !self.frames.is_empty()))
    }

    /// Number of the first input to send next, and how many go with it.
    fn next_frame(&self) -> Option<(u64, usize)> {
        let from = self.inputs.range((self.next - self.first) as usize..);
        // What was refused has its answer and, after a loss, others may.
        let skipped = from.clone().take_while(|input| input.answer.is_some()).count();
        let first = self.next + skipped as u64;
        let most = self.trouble.as_ref().map_or(T::FRAME_INPUTS, |trouble| trouble.most.min(T::FRAME_INPUTS));
        let open = from.skip(skipped).take_while(|input| input.answer.is_none());
        match fitting(open.take(most).map(|input| input.content.size()), FRAME_BYTES) {
            0 => None,
            length => Some((first, length)),
        }
    }

    fn take_in(&mut self, reply: Reply) -> Result<(), CallError> {
        let id = reply.id();
        let place = self.frames.iter().position(|frame| frame.id == id);
        let place = place.ok_or_else(|| CallError::Other(unexpected_id(id)))?;
        let answers = match reply {
            Reply::Denoised { steps, .. } => {
                self.frames[place].steps += u64::from(steps);
                return Ok(());
            }
            Reply::Failed { failure, .. } => return Err(CallError::Other(failure.into())),
            reply => T::answers(reply).map_err(|other| CallError::Other(unexpected(&other)))?,
        };
        let Frame { first, length, .. } = self.frames.swap_remove(place);
        if answers.len() != length {
            let message = format!("{} answers came for {length} inputs", answers.len());
            return Err(CallError::Other(Error::internal(message)));
        }
        let from = (first - self.first) as usize;
        for (input, answer) in self.inputs.range_mut(from..from + length).zip(answers) {
            input.answer = Some(answer);
        }
        if let Some(trouble) = &mut self.trouble {
            trouble.losses = 0;
            trouble.has_blamed = false;
            if self.next >= trouble.until {
                self.trouble = None;
            }
        }
        Ok(())
    }

    /// The server has died: makes what it had not answered the next to be sent.
    fn recover(&mut self, error: io::Error) -> Result<()> {
        self.connection = None;
        let frames = std::mem::take(&mut self.frames);
        let Some(first) = frames.iter().map(|frame| frame.first).min() else {
            return Err(InferenceError::ConnectionLost(error).into());
        };
        self.next = first;
        let was_careful = self.trouble.is_some();
        let trouble = self.trouble.get_or_insert(Trouble { until: 0, most: 0, losses: 0, has_blamed: false });
        let end = frames.iter().map(|frame| frame.first + frame.length as u64).max().unwrap_or(first);
        trouble.until = trouble.until.max(end);
        trouble.most = if was_careful { 1 } else { CAREFUL_INPUTS };
        if !matches!(frames[..], [Frame { length: 1, .. }]) {
            return Ok(());
        }
        trouble.losses += 1;
        if trouble.losses < MOST_LOSSES {
            // Once may be chance: a server that was stopped since the last call, say.
            if trouble.losses > 1 {
                wait::for_time(pause());
            }
            return Ok(());
        }
        if trouble.has_blamed {
            // Two inputs one after the other: it is not the inputs.
            return Err(InferenceError::ConnectionLost(error).into());
        }
        trouble.losses = 0;
        trouble.has_blamed = true;
        if let Some(input) = self.inputs.get_mut((first - self.first) as usize) {
            input.answer = Some(Err(died(&error)));
        }
        if self.next + 1 >= trouble.until {
            self.trouble = None;
        }
        Ok(())
    }
}

impl<T: Content> Drop for Stream<T> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.put_back();
        }
    }
}

/// A connection to a process that has the right model.
fn connect(own: Option<&OwnModel>) -> Result<Connection, CallError> {
    let mut losses = 0;
    loop {
        let mut connection = Connection::take().map_err(CallError::Other)?;
        match own.map_or(Ok(()), |own| own.check(&mut connection)) {
            Ok(()) => return Ok(connection),
            // The process has gone since the last call, or went while it was asked: of others' inputs.
            Err(CallError::Lost(_)) if losses < MOST_LOSSES_UNASKED => losses += 1,
            Err(error) => return Err(error),
        }
        if losses > 1 {
            wait::for_time(pause());
        }
    }
}

/// How many of the inputs, of these sizes, come to no more than so many bytes; the first always does.
fn fitting(sizes: impl Iterator<Item = usize>, most_bytes: usize) -> usize {
    let (mut count, mut bytes) = (0, 0);
    for size in sizes {
        bytes += size;
        if count > 0 && bytes > most_bytes {
            break;
        }
        count += 1;
    }
    count
}

/// How many of the inputs are no more than so many and so many bytes; at least one.
pub fn batch_length<T>(inputs: &[T], most: usize, most_bytes: usize, size: impl Fn(&T) -> usize) -> usize {
    fitting(inputs.iter().take(most).map(size), most_bytes).max(1)
}

fn died(error: &io::Error) -> Failure {
    Failure {
        kind: FailureKind::ServerDied,
        message: format!(
            "the inference process ended each of the {MOST_LOSSES} times that it worked on this: {error}"
        ),
        hint: Some("PostgreSQL's log may say why it ended.".to_owned()),
    }
}

/// A random time up to the longest.
fn pause() -> Duration {
    // The standard library's keys of hash maps are its only random numbers.
    let random = RandomState::new().build_hasher().finish();
    LONGEST_PAUSE.mul_f64(random as f64 / u64::MAX as f64)
}

fn unexpected_id(id: u64) -> Error {
    Error::internal(format_args!("the inference process answered request {id}, which nobody asked"))
}
