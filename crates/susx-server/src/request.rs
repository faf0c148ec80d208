//! A request for embeddings or images, from its arrival to its reply.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde_bytes::ByteBuf;

use crate::budget::Share;
use crate::protocol::{Failure, FailureKind, Reply};
use crate::stats;

/// What is made of one input.
pub trait Product: Sized {
    /// The reply to a request with one answer per input.
    fn reply(id: u64, answers: Vec<Result<Self, Failure>>) -> Reply;
    /// A request was answered so long after its arrival.
    fn count(latency: Duration);
}

/// A unit vector.
impl Product for Vec<f32> {
    fn reply(id: u64, embeddings: Vec<Embedding>) -> Reply {
        Reply::Embedded { id, embeddings }
    }

    fn count(latency: Duration) {
        stats::server().replied(latency);
    }
}

/// A PNG file.
impl Product for ByteBuf {
    fn reply(id: u64, images: Vec<Image>) -> Reply {
        Reply::Generated { id, images }
    }

    /// They take a thousand times as long: together with those of embeddings they would mean nothing.
    fn count(_latency: Duration) {}
}

/// The answers to one input.
pub type Embedding = Result<Vec<f32>, Failure>;
pub type Image = Result<ByteBuf, Failure>;

/// Who has sent a request, as long as it is there.
#[derive(Debug)]
pub struct Sent {
    /// Where replies go.
    pub replies: Sender<Reply>,
    /// Gone with the connection.
    pub presence: Weak<()>,
    /// Its bytes, which are held until the last input is answered or dropped.
    pub _share: Share,
    pub arrived: Instant,
}

/// A request whose inputs may be answered in any order, by several batches.
#[derive(Debug)]
struct Pending<P: Product> {
    id: u64,
    sent: Sent,
    /// `None` until answered.
    answers: Mutex<Vec<Option<Result<P, Failure>>>>,
}

/// One input of a request, waiting for what is made of it.
#[derive(Debug)]
pub struct Input<T, P: Product = Vec<f32>> {
    pub content: T,
    place: usize,
    request: Arc<Pending<P>>,
    _waits: stats::Present,
}

/// Splits a request into its inputs.
pub fn split<T, P: Product>(id: u64, contents: Vec<T>, sent: Sent) -> Vec<Input<T, P>> {
    let answers = Mutex::new(contents.iter().map(|_| None).collect());
    let request = Arc::new(Pending { id, sent, answers });
    let input =
        |(place, content)| Input { content, place, request: Arc::clone(&request), _waits: stats::input() };
    contents.into_iter().enumerate().map(input).collect()
}

impl<T, P: Product> Input<T, P> {
    /// Takes the answer; the last one of a request sends its reply.
    pub fn answer(self, answer: Result<P, Failure>) {
        let mut answers = self.request.lock();
        answers[self.place] = Some(answer);
        if answers.iter().all(Option::is_some) {
            let answers = answers.drain(..).flatten().collect();
            P::count(self.request.sent.arrived.elapsed());
            self.request.reply(P::reply(self.request.id, answers));
        }
    }

    /// Whether nobody is left to read the answer.
    pub fn is_abandoned(&self) -> bool {
        self.request.sent.presence.strong_count() == 0
    }

    /// Tells the sender that so many more denoising steps are done.
    pub fn denoised(&self, steps: u32) {
        self.request.reply(Reply::Denoised { id: self.request.id, steps });
    }
}

impl<P: Product> Pending<P> {
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Result<P, Failure>>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reply(&self, reply: Reply) {
        // A connection that has gone wants no reply.
        let _ = self.sent.replies.send(reply);
    }
}

impl<P: Product> Drop for Pending<P> {
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
    use crate::budget::{Budget, Holder};
    use std::sync::mpsc;

    fn request(contents: Vec<&str>) -> (Vec<Input<&str>>, mpsc::Receiver<Reply>) {
        let (replies, received) = mpsc::channel();
        let share = Budget::new(1).take(1, &Holder::default(), || false);
        let sent = |share| Sent { replies, presence: Weak::new(), _share: share, arrived: Instant::now() };
        (share.map(|share| split(7, contents, sent(share))).unwrap_or_default(), received)
    }

    #[test]
    fn the_reply_has_the_order_of_the_request() {
        let (inputs, received) = request(vec!["a", "b"]);
        for input in inputs.into_iter().rev() {
            let first_letter = f32::from(input.content.as_bytes()[0]);
            input.answer(Ok(vec![first_letter]));
        }
        let replies: Vec<Reply> = received.iter().collect();
        let [Reply::Embedded { id: 7, embeddings }] = replies.as_slice() else { panic!("{replies:?}") };
        assert_eq!(embeddings, &[Ok(vec![97.0]), Ok(vec![98.0])]);
    }

    #[test]
    fn a_dropped_input_fails_the_request() {
        let (mut inputs, received) = request(vec!["a", "b"]);
        if let Some(input) = inputs.pop() {
            input.answer(Ok(vec![1.0]));
        }
        drop(inputs);
        let replies: Vec<Reply> = received.iter().collect();
        assert!(matches!(replies.as_slice(), [Reply::Failed { id: 7, .. }]), "{replies:?}");
    }
}
