//! The replies of one connection, on their way to the backend.
//!
//! A backend may take its time to read them: it may be waiting for a lock. What waits for it counts in the budget; if
//! others need that room, a backend that does not read loses its connection, and sends its requests again when it
//! goes on.

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use crate::protocol::{self, Failure, FailureKind, Reply};
use crate::socket::budget::{Budget, Reservation};

/// Where the replies of a connection go.
#[derive(Clone, Debug)]
pub struct ReplySender(Sender<Sent>);

/// A reply, and what it takes of the budget.
#[derive(Debug)]
struct Sent {
    reply: Reply,
    share: Option<Reservation>,
}

/// Writes replies.
#[derive(Debug)]
pub struct ReplyWriter {
    stream: UnixStream,
    replies: Receiver<Sent>,
    budget: Arc<Budget>,
    /// How long the backend may pause while others wait for room.
    pause: Duration,
}

/// The replies of a connection, and who writes them.
pub fn replies(stream: UnixStream, budget: Arc<Budget>, pause: Duration) -> (ReplySender, ReplyWriter) {
    let (sender, replies) = mpsc::channel();
    (ReplySender(sender), ReplyWriter { stream, replies, budget, pause })
}

impl ReplySender {
    /// Sends a reply in the place of the request that it answers.
    pub fn send(&self, reply: Reply, mut share: Option<Reservation>) {
        if let Some(share) = &mut share {
            share.resize(reply.bytes());
        }
        // The writer ends with the connection: then nobody wants the reply.
        let _ = self.0.send(Sent { reply, share });
    }
}

impl ReplyWriter {
    /// Writes until the connection ends.
    pub fn work(mut self) {
        while let Ok(Sent { reply, share }) = self.replies.recv() {
            let frame = protocol::encode(&reply).or_else(|error| {
                // Too long to say: every request can be answered with its failure.
                let failure = Failure::new(FailureKind::Protocol, error);
                protocol::encode(&Reply::Failed { id: reply.id(), failure })
            });
            // In its place there is the frame, of about the same size.
            drop(reply);
            if !frame.is_ok_and(|frame| self.write(&frame)) {
                // The reader sees the end of the connection too, and cleans up.
                let _ = self.stream.shutdown(Shutdown::Both);
                return;
            }
            drop(share);
        }
    }

    /// Whether all of it was written.
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
                        log::warn!("a session does not read its replies, and others wait for their memory");
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
    use crate::socket::budget::Holdings;

    const PAUSE: Duration = Duration::from_millis(50);

    /// A reply that no socket takes at once.
    fn long() -> Reply {
        Reply::Embedded { id: 1, embeddings: vec![Ok(vec![1.0; 512]); 2000] }
    }

    fn start(budget: &Arc<Budget>) -> (ReplySender, UnixStream, thread::JoinHandle<()>) {
        let (ours, theirs) = UnixStream::pair().unwrap_or_else(|error| panic!("{error}"));
        let (replies, writer) = replies(ours, Arc::clone(budget), PAUSE);
        (replies, theirs, thread::spawn(move || writer.work()))
    }

    #[test]
    fn what_waits_for_a_reader_counts() {
        let budget = Arc::new(Budget::new(1000));
        let (replies, mut theirs, writer) = start(&budget);
        replies.send(long(), budget.take(10, &Holdings::default(), || false));
        assert!(budget.used() >= 4 * 512 * 2000);
        // Nobody wants its room: it may wait.
        thread::sleep(4 * PAUSE);
        assert!(!writer.is_finished());
        drop(replies);
        let mut read = Vec::new();
        assert!(theirs.read_to_end(&mut read).is_ok() && read.len() >= 4 * 512 * 2000);
        assert!(writer.join().is_ok());
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn who_does_not_read_loses_the_room_only_to_others() {
        let budget = Arc::new(Budget::new(1000));
        let (replies, theirs, writer) = start(&budget);
        let shares: Vec<_> = (0..3).map(|_| budget.take(10, &Holdings::default(), || false)).collect();
        for share in shares {
            replies.send(long(), share);
        }
        thread::sleep(2 * PAUSE);
        assert!(!writer.is_finished());
        // It waits for all three, and gets in.
        assert!(budget.take(700, &Holdings::default(), || false).is_some());
        assert!(writer.join().is_ok());
        drop((replies, theirs));
    }
}
