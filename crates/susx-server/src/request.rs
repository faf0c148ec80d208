//! A request for embeddings, from its arrival to its reply.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::budget::Share;
use crate::protocol::{Failure, FailureKind, Reply};
use crate::stats;

/// The answer to one input.
pub type Embedding = Result<Vec<f32>, Failure>;

/// A request whose inputs may be answered in any order, by several batches.
#[derive(Debug)]
struct Pending {
    id: u64,
    arrived: Instant,
    replies: Sender<Reply>,
    /// `None` until answered.
    embeddings: Mutex<Vec<Option<Embedding>>>,
    /// Held until the last input is answered or dropped.
    _share: Share,
}

/// One input of a request, waiting for its embedding.
#[derive(Debug)]
pub struct Input<T> {
    pub content: T,
    place: usize,
    request: Arc<Pending>,
    _waits: stats::Present,
}

/// Splits a request into its inputs.
pub fn split<T>(
    id: u64,
    arrived: Instant,
    contents: Vec<T>,
    share: Share,
    replies: &Sender<Reply>,
) -> Vec<Input<T>> {
    let embeddings = Mutex::new(vec![None; contents.len()]);
    let request = Arc::new(Pending { id, arrived, replies: replies.clone(), embeddings, _share: share });
    let input =
        |(place, content)| Input { content, place, request: Arc::clone(&request), _waits: stats::input() };
    contents.into_iter().enumerate().map(input).collect()
}

impl<T> Input<T> {
    /// Takes the answer; the last one of a request sends its reply.
    pub fn answer(self, embedding: Embedding) {
        let mut embeddings = self.request.lock();
        embeddings[self.place] = Some(embedding);
        if embeddings.iter().all(Option::is_some) {
            let embeddings = embeddings.drain(..).flatten().collect();
            stats::server().replied(self.request.arrived.elapsed());
            self.request.reply(Reply::Embedded { id: self.request.id, embeddings });
        }
    }
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Embedding>>> {
        self.embeddings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reply(&self, reply: Reply) {
        // A connection that has gone wants no reply.
        let _ = self.replies.send(reply);
    }
}

impl Drop for Pending {
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
        (share.map(|share| split(7, Instant::now(), contents, share, &replies)).unwrap_or_default(), received)
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
