//! Whether the server still answers.
//!
//! Every now and then the supervisor connects as a session does, greets, and waits for the greeting in
//! return. That takes the server's accepting thread and a new one for the connection, but no model and
//! no place in a queue: a server that loads or computes answers at once, one that is stopped or stuck
//! does not.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use susx_server::protocol::{self, PROTOCOL_VERSION, Request};

use super::try_connect;
use crate::pg::version::LIBRARY;

/// The watch over one server process.
#[derive(Debug)]
pub struct Watch {
    /// A greeting that has no answer yet.
    asked: Option<UnixStream>,
    next: Instant,
    looked: Instant,
    /// Whether a question was put, and how long ago.
    waiting: bool,
    silent: Duration,
}

/// How often to look if a silence of `limit` is too long.
pub fn interval(limit: Duration) -> Duration {
    (limit / 8).clamp(Duration::from_millis(50), Duration::from_secs(5))
}

impl Watch {
    pub fn new() -> Self {
        let now = Instant::now();
        Watch { asked: None, next: now, looked: now, waiting: false, silent: Duration::ZERO }
    }

    /// Looks for the answer, or asks anew; returns for how long it has waited for one. Time in which the
    /// supervisor itself did not get to look counts little: then the whole machine stood still.
    pub fn look(&mut self, interval: Duration) -> Duration {
        let now = Instant::now();
        if self.waiting {
            self.silent += (now - self.looked).min(2 * interval);
        }
        self.looked = now;
        if let Some(stream) = &mut self.asked {
            match stream.read(&mut [0; 64]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.silent,
                Ok(read) if read > 0 => (self.waiting, self.silent) = (false, Duration::ZERO),
                // Closed without an answer.
                Ok(_) | Err(_) => {}
            }
            self.asked = None;
            self.next = now + interval;
        } else if now >= self.next {
            // Where nobody listens, or the queue of connections is full, there is no answer either.
            self.asked = greet().ok();
            self.waiting = true;
            self.next = now + interval;
        }
        self.silent
    }
}

fn greet() -> io::Result<UnixStream> {
    let mut stream = try_connect()?;
    let hello = Request::Hello { protocol: PROTOCOL_VERSION, version: LIBRARY };
    let frame = protocol::encode(&hello).map_err(io::Error::other)?;
    // Into an empty buffer: it fits.
    stream.write_all(&frame)?;
    Ok(stream)
}
