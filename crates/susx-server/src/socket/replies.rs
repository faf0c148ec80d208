//! Sends the replies of one connection to the backend.
//!
//! A backend may not read for a while, because it may be waiting for a lock. Unsent replies count towards the budget.
//! If other requests need that memory, the connection of a backend that does not read is closed, and the backend sends
//! its requests again when it resumes.

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use crate::protocol::{self, Failure, FailureKind, Reply};
use crate::socket::budget::{Budget, Reservation};

/// Queues replies for a connection's writer.
#[derive(Clone, Debug)]
pub struct ReplySender(Sender<QueuedReply>);

/// A reply and the memory reserved for it.
#[derive(Debug)]
struct QueuedReply {
    reply: Reply,
    reservation: Option<Reservation>,
}

/// Writes a connection's replies to its socket.
#[derive(Debug)]
pub struct ReplyWriter {
    stream: UnixStream,
    replies: Receiver<QueuedReply>,
    budget: Arc<Budget>,
    /// How long the backend may not read while other requests wait for memory.
    pause: Duration,
}

/// The two ends of a connection's queue of replies.
pub fn replies(stream: UnixStream, budget: Arc<Budget>, pause: Duration) -> (ReplySender, ReplyWriter) {
    let (sender, replies) = mpsc::channel();
    (ReplySender(sender), ReplyWriter { stream, replies, budget, pause })
}

impl ReplySender {
    /// Queues a reply, and resizes the request's reservation to the size of the reply.
    pub fn send(&self, reply: Reply, mut reservation: Option<Reservation>) {
        if let Some(reservation) = &mut reservation {
            reservation.resize(reply.bytes());
        }
        // This fails only after the writer has ended with its connection: no one will read the reply.
        let _ = self.0.send(QueuedReply { reply, reservation });
    }
}

impl ReplyWriter {
    /// Writes until the connection ends.
    pub fn work(mut self) {
        while let Ok(QueuedReply { reply, reservation }) = self.replies.recv() {
            let frame = protocol::encode(&reply).or_else(|error| {
                // The reply is too long. A failure always fits.
                let failure = Failure::new(FailureKind::Protocol, error);
                protocol::encode(&Reply::Failed { id: reply.id(), failure })
            });
            // Freed early: the frame takes about as much memory and is covered by the same reservation.
            drop(reply);
            if !frame.is_ok_and(|frame| self.write(&frame)) {
                // The reading thread sees the shutdown, too, and cleans up.
                let _ = self.stream.shutdown(Shutdown::Both);
                return;
            }
            drop(reservation);
        }
    }

    /// Writes the frame; false if the connection failed or was given up.
    fn write(&mut self, frame: &[u8]) -> bool {
        if self.stream.set_write_timeout(Some(self.pause)).is_err() {
            return false;
        }
        let mut rest = frame;
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(0) => return false,
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if self.budget.has_waiters() {
                        log::warn!(
                            "a session does not read its replies, and other requests wait for their memory"
                        );
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::thread;

    use super::*;
    use crate::socket::budget::ReservationCount;

    const PAUSE: Duration = Duration::from_millis(50);

    /// A reply larger than a socket's buffer.
    fn long() -> Reply {
        Reply::Embedded { id: 1, embeddings: vec![Ok(vec![1.0; 512]); 2000] }
    }

    fn start(budget: &Arc<Budget>) -> (ReplySender, UnixStream, thread::JoinHandle<()>) {
        let (ours, theirs) = UnixStream::pair().unwrap_or_else(|error| panic!("{error}"));
        let (replies, writer) = replies(ours, Arc::clone(budget), PAUSE);
        (replies, theirs, thread::spawn(move || writer.work()))
    }

    #[test]
    fn unsent_replies_count_towards_the_budget() {
        let budget = Arc::new(Budget::new(1000));
        let (replies, mut theirs, writer) = start(&budget);
        replies.send(long(), budget.take(10, &ReservationCount::default(), || false));
        assert!(budget.used() >= 4 * 512 * 2000);
        // No other request waits for memory, so the writer may wait.
        thread::sleep(4 * PAUSE);
        assert!(!writer.is_finished());
        drop(replies);
        let mut read = Vec::new();
        assert!(theirs.read_to_end(&mut read).is_ok() && read.len() >= 4 * 512 * 2000);
        assert!(writer.join().is_ok());
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_backend_that_does_not_read_is_dropped_only_if_another_request_waits() {
        let budget = Arc::new(Budget::new(1000));
        let (replies, theirs, writer) = start(&budget);
        let reservations: Vec<_> =
            (0..3).map(|_| budget.take(10, &ReservationCount::default(), || false)).collect();
        for reservation in reservations {
            replies.send(long(), reservation);
        }
        thread::sleep(2 * PAUSE);
        assert!(!writer.is_finished());
        // Admitted once the memory of all three replies is released.
        assert!(budget.take(700, &ReservationCount::default(), || false).is_some());
        assert!(writer.join().is_ok());
        drop((replies, theirs));
    }
}
