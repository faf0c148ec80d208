//! A request for embeddings or images, from its arrival to its reply.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde_bytes::ByteBuf;

use crate::protocol::{Failure, FailureKind, Reply};
use crate::socket::budget::Reservation;
use crate::socket::replies::ReplySender;
use crate::stats;

/// What is made of one input.
pub trait Output: Sized {
    /// The reply to a request with one answer per input.
    fn reply(id: u64, answers: Vec<Result<Self, Failure>>) -> Reply;
    /// A request was answered so long after its arrival.
    fn count(latency: Duration);
}

/// A unit vector.
impl Output for Vec<f32> {
    fn reply(id: u64, embeddings: Vec<EmbeddingResult>) -> Reply {
        Reply::Embedded { id, embeddings }
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

    /// They take a thousand times as long: together with those of embeddings they would mean nothing.
    fn count(_latency: Duration) {}
}

/// The answers to one input.
pub type EmbeddingResult = Result<Vec<f32>, Failure>;
pub type ImageResult = Result<ByteBuf, Failure>;

/// What there is in place of an answer that nobody reads.
pub fn abandoned() -> Failure {
    Failure::new(FailureKind::Inference, "nobody waits for it")
}

/// Who has sent a request, as long as it is there.
#[derive(Debug)]
pub struct Sent {
    /// Where replies go.
    pub replies: ReplySender,
    /// Gone with the connection.
    pub presence: Weak<()>,
    /// Its bytes, and then those of its reply until that is sent.
    pub share: Reservation,
    pub arrived: Instant,
}

/// A request whose inputs may be answered in any order, by several batches.
#[derive(Debug)]
struct PendingRequest<P: Output> {
    id: u64,
    replies: ReplySender,
    presence: Weak<()>,
    arrived: Instant,
    /// `None` once there is a reply.
    share: Mutex<Option<Reservation>>,
    /// `None` until answered.
    answers: Mutex<Vec<Option<Result<P, Failure>>>>,
}

/// One input of a request, waiting for what is made of it.
#[derive(Debug)]
pub struct PendingInput<T, P: Output = Vec<f32>> {
    pub payload: T,
    place: usize,
    request: Arc<PendingRequest<P>>,
    _waits: stats::Present,
}

/// What an input takes beside its bytes, until it is answered.
pub const INPUT_BYTES: usize = 256;

/// Splits a request into its inputs. One without any is answered.
pub fn split<T, P: Output>(id: u64, contents: Vec<T>, bytes: usize, sent: Sent) -> Vec<PendingInput<T, P>> {
    let Sent { replies, presence, mut share, arrived } = sent;
    if contents.is_empty() {
        replies.send(P::reply(id, Vec::new()), Some(share));
        return Vec::new();
    }
    share.resize(bytes + INPUT_BYTES * contents.len());
    let answers = Mutex::new(contents.iter().map(|_| None).collect());
    let share = Mutex::new(Some(share));
    let request = Arc::new(PendingRequest { id, replies, presence, arrived, share, answers });
    let input = |(place, payload)| PendingInput {
        payload,
        place,
        request: Arc::clone(&request),
        _waits: stats::input(),
    };
    contents.into_iter().enumerate().map(input).collect()
}

impl<T, P: Output> PendingInput<T, P> {
    /// Takes the answer; the last one of a request sends its reply.
    pub fn answer(self, answer: Result<P, Failure>) {
        let mut answers = self.request.lock();
        answers[self.place] = Some(answer);
        if answers.iter().all(Option::is_some) {
            let answers = answers.drain(..).flatten().collect();
            P::count(self.request.arrived.elapsed());
            self.request.reply(P::reply(self.request.id, answers));
        }
    }

    /// Whether nobody is left to read the answer.
    pub fn is_abandoned(&self) -> bool {
        self.request.presence.strong_count() == 0
    }

    /// Tells the sender that so many more denoising steps are done.
    pub fn denoised(&self, steps: u32) {
        self.request.replies.send(Reply::Denoised { id: self.request.id, steps }, None);
    }
}

impl<P: Output> PendingRequest<P> {
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Result<P, Failure>>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reply(&self, reply: Reply) {
        let share = self.share.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.replies.send(reply, share);
    }
}

impl<P: Output> Drop for PendingRequest<P> {
    /// No backend waits for ever: inputs that were dropped, by a panic say, fail the request.
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
    use crate::socket::budget::{Budget, Holdings};
    use crate::socket::replies::replies;

    /// The replies to a request, with whose inputs something is done.
    fn replies_to(contents: Vec<&str>, act: impl FnOnce(Vec<PendingInput<&str>>)) -> Vec<Reply> {
        let (ours, mut theirs) = UnixStream::pair().unwrap_or_else(|error| panic!("{error}"));
        let budget = Arc::new(Budget::new(10_000));
        let (replies, writer) = replies(ours, Arc::clone(&budget), Duration::from_secs(1));
        let share = budget.take(100, &Holdings::default(), || false);
        let share = share.unwrap_or_else(|| panic!("there is room"));
        let count = contents.len();
        let sent = Sent { replies, presence: Weak::new(), share, arrived: Instant::now() };
        let inputs = split(7, contents, 100, sent);
        if count > 0 {
            assert_eq!(budget.used(), 100 + count * INPUT_BYTES);
        }
        act(inputs);
        let writer = thread::spawn(|| writer.work());
        let mut received = Vec::new();
        assert!(writer.join().is_ok() && theirs.read_to_end(&mut received).is_ok());
        assert_eq!(budget.used(), 0);
        std::iter::from_fn(|| take_reply(&mut received).unwrap_or_else(|error| panic!("{error}"))).collect()
    }

    #[test]
    fn the_reply_has_the_order_of_the_request() {
        let replies = replies_to(vec!["a", "b"], |inputs| {
            for input in inputs.into_iter().rev() {
                let first_letter = f32::from(input.payload.as_bytes()[0]);
                input.answer(Ok(vec![first_letter]));
            }
        });
        let [Reply::Embedded { id: 7, embeddings }] = replies.as_slice() else { panic!("{replies:?}") };
        assert_eq!(embeddings, &[Ok(vec![97.0]), Ok(vec![98.0])]);
    }

    #[test]
    fn a_dropped_input_fails_the_request() {
        let replies = replies_to(vec!["a", "b"], |mut inputs| {
            if let Some(input) = inputs.pop() {
                input.answer(Ok(vec![1.0]));
            }
        });
        assert!(matches!(replies.as_slice(), [Reply::Failed { id: 7, .. }]), "{replies:?}");
    }

    #[test]
    fn a_request_for_nothing_is_answered_at_once() {
        let replies = replies_to(Vec::new(), |inputs| assert!(inputs.is_empty()));
        let [Reply::Embedded { id: 7, embeddings }] = replies.as_slice() else { panic!("{replies:?}") };
        assert!(embeddings.is_empty());
    }
}
