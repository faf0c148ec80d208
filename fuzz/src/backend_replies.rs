use susx_server::protocol::{self, Reply};

/// Bytes that a backend receives from the server. However they are divided, the backend must read the same replies and
/// the same error, and each reply must encode to the frame that it was read from.
pub fn backend_replies(data: &[u8]) {
    let (whole, end) = receive(data, data.len().max(1));
    for step in [1, 3, 64] {
        assert_eq!(receive(data, step), (whole.clone(), end.clone()), "{step} bytes at a time");
    }
    for frame in whole {
        let (again, _) = receive(&frame, frame.len());
        assert_eq!(again, [frame]);
    }
}

/// Receives `step` bytes at a time. Returns the replies, encoded again, and the error after them.
fn receive(data: &[u8], step: usize) -> (Vec<Vec<u8>>, Option<String>) {
    let (mut received, mut replies) = (Vec::new(), Vec::new());
    for piece in data.chunks(step) {
        received.extend(piece);
        loop {
            match protocol::take_reply(&mut received) {
                Ok(Some(reply)) => replies.push(frame(&reply)),
                Ok(None) => break,
                Err(error) => return (replies, Some(error.to_string())),
            }
        }
    }
    (replies, None)
}

/// Replies are compared by their encoding, in which NaN equals itself.
fn frame(reply: &Reply) -> Vec<u8> {
    protocol::encode(reply).expect("what was read can be written")
}
