//! Detects a server that hangs.
//!
//! At intervals the supervisor connects like a session, sends a greeting and waits for the reply. That involves the
//! server's accepting thread and a new thread for the connection, but no model and no queue. So a server that is
//! loading a model or computing answers at once, and one that is stopped or hangs does not.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use susx_server::protocol::{self, PROTOCOL_VERSION, Request};

use super::try_connect;
use crate::pg::version::LIBRARY;

/// Heartbeat of one server process.
#[derive(Debug)]
pub struct Heartbeat {
    /// The connection of a greeting without a reply.
    greeted: Option<UnixStream>,
    /// When to send the next greeting.
    next_greeting: Instant,
    last_check: Instant,
    /// Whether a greeting has been sent since the last reply.
    waiting: bool,
    /// How long the server has not replied.
    silence: Duration,
}

/// How often to check, if the server may be silent for `limit`.
pub fn interval(limit: Duration) -> Duration {
    (limit / 8).clamp(Duration::from_millis(50), Duration::from_secs(5))
}

impl Heartbeat {
    pub fn new() -> Self {
        let now = Instant::now();
        Heartbeat {
            greeted: None,
            next_greeting: now,
            last_check: now,
            waiting: false,
            silence: Duration::ZERO,
        }
    }

    /// Checks for a reply, or sends a new greeting. Returns how long the server has not replied. If the supervisor
    /// itself was held up between two checks, at most twice the interval counts: the whole machine was probably held
    /// up.
    pub fn check(&mut self, interval: Duration) -> Duration {
        let now = Instant::now();
        if self.waiting {
            self.silence += (now - self.last_check).min(2 * interval);
        }
        self.last_check = now;
        if let Some(stream) = &mut self.greeted {
            match stream.read(&mut [0; 64]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.silence,
                Ok(read) if read > 0 => (self.waiting, self.silence) = (false, Duration::ZERO),
                // The server closed the connection without a reply.
                Ok(_) | Err(_) => {}
            }
            self.greeted = None;
            self.next_greeting = now + interval;
        } else if now >= self.next_greeting {
            // A failure to connect counts as a missing reply.
            self.greeted = greet().ok();
            self.waiting = true;
            self.next_greeting = now + interval;
        }
        self.silence
    }
}

/// Connects and sends a greeting.
fn greet() -> io::Result<UnixStream> {
    let mut stream = try_connect()?;
    let hello = Request::Hello { protocol: PROTOCOL_VERSION, version: LIBRARY };
    let frame = protocol::encode(&hello).map_err(io::Error::other)?;
    // Does not block: the socket's buffer is empty.
    stream.write_all(&frame)?;
    Ok(stream)
}
