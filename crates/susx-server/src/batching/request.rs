//! A request for embeddings or images, from its arrival until its reply is queued.

use std::iter;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde_bytes::ByteBuf;

use crate::protocol::{Failure, FailureKind, Reply, TextEmbedding};
use crate::socket::budget::Reservation;
use crate::socket::replies::ReplySender;
use crate::stats;

/// Result of one input: the embedding of an image or a text, or an image.
pub trait Output: Sized {
    /// The reply to a request, with one answer per input.
    fn reply(id: u64, answers: Vec<Result<Self, Failure>>) -> Reply;
    /// Records the time from the request's arrival to its reply.
    fn count(latency: Duration);
}

/// The unit vector of an image.
impl Output for Vec<f32> {
    fn reply(id: u64, embeddings: Vec<EmbeddingResult>) -> Reply {
        Reply::Embedded { id, embeddings }
    }

    fn count(latency: Duration) {
        stats::server().replied(latency);
    }
}

impl Output for TextEmbedding {
    fn reply(id: u64, embeddings: Vec<TextResult>) -> Reply {
        Reply::EmbeddedTexts { id, embeddings }
    }

    fn count(latency: Duration) {
        stats::server().replied(latency);
    }
}

/// A PNG file.
impl Output for ByteBuf {
    fn reply(id: u64, images: Vec<ImageResult>) -> Reply {
        Reply::Generated { id, images }
    }

    /// Not recorded: generating an image takes a thousand times as long as embedding one and would distort the
    /// quantiles.
    fn count(_latency: Duration) {}
}

/// Answer to one image.
pub type EmbeddingResult = Result<Vec<f32>, Failure>;
/// Answer to one text.
pub type TextResult = Result<TextEmbedding, Failure>;
/// Answer to one image request.
pub type ImageResult = Result<ByteBuf, Failure>;

/// Placeholder for the answer of an input whose backend has disconnected.
pub fn abandoned() -> Failure {
    Failure::new(FailureKind::Inference, "the client has disconnected")
}

/// Connection, memory and arrival time of a request.
#[derive(Debug)]
pub struct RequestContext {
    /// Queue of the connection's replies.
    pub replies: ReplySender,
    /// Dangling once the connection has ended.
    pub connected: Weak<()>,
    /// Memory reserved for the request, and then for its reply.
    pub reservation: Reservation,
    pub arrived: Instant,
}

/// A request whose inputs may be answered in any order, by several batches.
#[derive(Debug)]
struct PendingRequest<P: Output> {
    id: u64,
    replies: ReplySender,
    connected: Weak<()>,
    arrived: Instant,
    /// `None` once the reply is queued.
    reservation: Mutex<Option<Reservation>>,
    /// `None` until answered.
    answers: Mutex<Vec<Option<Result<P, Failure>>>>,
    /// The reply with all answers.
    reply_of: ReplyOf<P>,
}

/// Makes the reply to the request of an id.
type ReplyOf<P> = fn(u64, Vec<Result<P, Failure>>) -> Reply;

/// One input of a request, until it is answered.
#[derive(Debug)]
pub struct PendingInput<T, P: Output = Vec<f32>> {
    pub payload: T,
    index: usize,
    request: Arc<PendingRequest<P>>,
    _waiting: stats::CountGuard,
}

/// Approximate overhead of an input in memory, in bytes: its queue entry and its place in the list of answers.
pub const INPUT_OVERHEAD_BYTES: usize = 256;

/// Splits a request of `bytes` bytes into its inputs, of which there must be at least one.
pub fn split<T, P: Output>(
    id: u64,
    payloads: Vec<T>,
    bytes: usize,
    context: RequestContext,
) -> Vec<PendingInput<T, P>> {
    pending_inputs(id, payloads, bytes, context, P::reply)
}

/// Splits a request of `bytes` bytes for the embeddings of its inputs by two models into the inputs of each model.
pub fn split_pairs<T>(
    id: u64,
    payloads: Vec<[T; 2]>,
    bytes: usize,
    context: RequestContext,
) -> [Vec<PendingInput<T>>; 2] {
    let payloads = payloads.into_iter().flatten().collect();
    let inputs = pending_inputs(id, payloads, bytes, context, reply_in_pairs);
    let (first, second) = inputs.into_iter().partition(|input| input.index % 2 == 0);
    [first, second]
}

/// The reply to a request whose answers are in turn those of the first and of the second model.
fn reply_in_pairs(id: u64, answers: Vec<EmbeddingResult>) -> Reply {
    let mut answers = answers.into_iter();
    let pairs = iter::from_fn(|| {
        let (embedding, likeness) = (answers.next()?, answers.next()?);
        Some(embedding.and_then(|embedding| Ok([embedding, likeness?])))
    });
    Reply::EmbeddedPairs { id, pairs: pairs.collect() }
}

fn pending_inputs<T, P: Output>(
    id: u64,
    payloads: Vec<T>,
    bytes: usize,
    context: RequestContext,
    reply_of: ReplyOf<P>,
) -> Vec<PendingInput<T, P>> {
    let RequestContext { replies, connected, mut reservation, arrived } = context;
    reservation.resize(bytes + INPUT_OVERHEAD_BYTES * payloads.len());
    let answers = Mutex::new(payloads.iter().map(|_| None).collect());
    let reservation = Mutex::new(Some(reservation));
    let request =
        Arc::new(PendingRequest { id, replies, connected, arrived, reservation, answers, reply_of });
    let input = |(index, payload)| PendingInput {
        payload,
        index,
        request: Arc::clone(&request),
        _waiting: stats::input(),
    };
    payloads.into_iter().enumerate().map(input).collect()
}

impl<T, P: Output> PendingInput<T, P> {
    /// Stores the answer; the last answer of a request queues its reply.
    pub fn answer(self, answer: Result<P, Failure>) {
        let mut answers = self.request.lock();
        answers[self.index] = Some(answer);
        if answers.iter().all(Option::is_some) {
            let answers = answers.drain(..).flatten().collect();
            P::count(self.request.arrived.elapsed());
            self.request.reply((self.request.reply_of)(self.request.id, answers));
        }
    }

    /// Whether the backend has disconnected.
    pub fn is_abandoned(&self) -> bool {
        self.request.connected.strong_count() == 0
    }

    /// Reports `steps` more denoising steps to the backend.
    pub fn denoised(&self, steps: u32) {
        self.request.replies.send(Reply::Denoised { id: self.request.id, steps }, None);
    }
}

impl<P: Output> PendingRequest<P> {
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Result<P, Failure>>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reply(&self, reply: Reply) {
        let reservation = self.reservation.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.replies.send(reply, reservation);
    }
}

impl<P: Output> Drop for PendingRequest<P> {
    /// Fails the request if inputs were dropped without an answer, for example by a panic, so that no backend waits
    /// forever.
    fn drop(&mut self) {
        if !self.lock().is_empty() {
            let failure = Failure {
                kind: FailureKind::Inference,
                message: "the inference process dropped the request".to_owned(),
                hint: None,
            };
            self.reply(Reply::Failed { id: self.id, failure });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use crate::protocol::take_reply;
    use crate::socket::budget::{Budget, ReservationCount};
    use crate::socket::replies::replies;

    type Inputs = Vec<PendingInput<&'static str>>;

    /// The replies to a request of 100 bytes, which `split` splits into `count` inputs, after `act` has handled these.
    fn replies_to<I>(
        count: usize,
        split: impl FnOnce(RequestContext) -> I,
        act: impl FnOnce(I),
    ) -> Vec<Reply> {
        let (ours, mut theirs) = UnixStream::pair().unwrap_or_else(|error| panic!("{error}"));
        let budget = Arc::new(Budget::new(10_000));
        let (replies, writer) = replies(ours, Arc::clone(&budget), Duration::from_secs(1));
        let reservation = budget.take(100, &ReservationCount::default(), || false);
        let reservation = reservation.unwrap_or_else(|| panic!("the budget is empty"));
        let context =
            RequestContext { replies, connected: Weak::new(), reservation, arrived: Instant::now() };
        let inputs = split(context);
        assert_eq!(budget.used(), 100 + count * INPUT_OVERHEAD_BYTES);
        act(inputs);
        let writer = thread::spawn(|| writer.work());
        let mut received = Vec::new();
        assert!(writer.join().is_ok() && theirs.read_to_end(&mut received).is_ok());
        assert_eq!(budget.used(), 0);
        std::iter::from_fn(|| take_reply(&mut received).unwrap_or_else(|error| panic!("{error}"))).collect()
    }

    fn two_inputs(context: RequestContext) -> Inputs {
        split(7, vec!["a", "b"], 100, context)
    }

    fn two_pairs(context: RequestContext) -> [Inputs; 2] {
        split_pairs(7, vec![["a", "A"], ["b", "B"]], 100, context)
    }

    /// Answers with the code of the payload's first letter.
    fn answer(input: PendingInput<&str>) {
        let first_letter = f32::from(input.payload.as_bytes()[0]);
        input.answer(Ok(vec![first_letter]));
    }

    #[test]
    fn the_reply_has_the_order_of_the_request() {
        let replies = replies_to(2, two_inputs, |inputs| inputs.into_iter().rev().for_each(answer));
        let [Reply::Embedded { id: 7, embeddings }] = replies.as_slice() else { panic!("{replies:?}") };
        assert_eq!(embeddings, &[Ok(vec![97.0]), Ok(vec![98.0])]);
    }

    #[test]
    fn the_answers_of_two_models_are_joined() {
        let replies = replies_to(4, two_pairs, |[first, second]| {
            second.into_iter().rev().for_each(answer);
            first.into_iter().for_each(answer);
        });
        let [Reply::EmbeddedPairs { id: 7, pairs }] = replies.as_slice() else { panic!("{replies:?}") };
        assert_eq!(pairs, &[Ok([vec![97.0], vec![65.0]]), Ok([vec![98.0], vec![66.0]])]);
    }

    #[test]
    fn an_image_fails_with_either_model() {
        let broken = |why: &str| Failure::new(FailureKind::Input, why);
        let three_pairs = |context| split_pairs(7, vec![["a", "A"], ["b", "B"], ["c", "C"]], 100, context);
        let replies = replies_to(6, three_pairs, |inputs: [Inputs; 2]| {
            for input in inputs.into_iter().flatten() {
                match input.payload {
                    broken_one @ ("a" | "b" | "B") => input.answer(Err(broken(broken_one))),
                    _ => answer(input),
                }
            }
        });
        let [Reply::EmbeddedPairs { id: 7, pairs }] = replies.as_slice() else { panic!("{replies:?}") };
        assert_eq!(pairs, &[Err(broken("a")), Err(broken("b")), Ok([vec![99.0], vec![67.0]])]);
    }

    #[test]
    fn a_dropped_input_fails_the_request() {
        let replies = replies_to(2, two_inputs, |mut inputs| inputs.pop().into_iter().for_each(answer));
        assert!(matches!(replies.as_slice(), [Reply::Failed { id: 7, .. }]), "{replies:?}");
    }

    #[test]
    fn the_dropped_inputs_of_one_model_fail_the_request() {
        let replies = replies_to(4, two_pairs, |[first, _]| first.into_iter().for_each(answer));
        assert!(matches!(replies.as_slice(), [Reply::Failed { id: 7, .. }]), "{replies:?}");
    }
}
