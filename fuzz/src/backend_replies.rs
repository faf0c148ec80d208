use susx_server::protocol::{self, Reply};

/// What the server sends to a backend: the same replies, and the same end, in whatever pieces it arrives; and what has
/// been read can be said again.
pub fn backend_replies(data: &[u8]) {
    let (whole, end) = take(data, data.len().max(1));
    for step in [1, 3, 64] {
        assert_eq!(take(data, step), (whole.clone(), end.clone()), "{step} bytes at a time");
    }
    for frame in whole {
        let (again, _) = take(&frame, frame.len());
        assert_eq!(again, [frame]);
    }
}

/// The frames of the replies, and the error after them.
fn take(data: &[u8], step: usize) -> (Vec<Vec<u8>>, Option<String>) {
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

/// Of floats, the bits count: NaN is equal to itself.
fn frame(reply: &Reply) -> Vec<u8> {
    protocol::encode(reply).expect("what was read can be written")
}
