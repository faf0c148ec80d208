//! Messages as frames, and back.

use serde::{Deserialize, Serialize};

use super::{LENGTH_BYTES, MAX_MESSAGE_BYTES, Reply};

/// A message that cannot be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    #[error("a message of {0} bytes is longer than the largest allowed, {MAX_MESSAGE_BYTES} bytes")]
    TooLong(usize),
    #[error("a message could not be encoded or decoded: {0}")]
    Postcard(#[from] postcard::Error),
}

/// Encodes a message as a frame.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, ProtocolError> {
    let mut frame = Vec::new();
    append(message, &mut frame)?;
    Ok(frame)
}

/// Appends the frame of a message to `frames`, which is unchanged on an error.
pub fn append<T: Serialize>(message: &T, frames: &mut Vec<u8>) -> Result<(), ProtocolError> {
    let begin = frames.len();
    frames.extend([0; LENGTH_BYTES]);
    let encoded = postcard::to_io(message, &mut *frames).map(|frames| frames.len() - begin - LENGTH_BYTES);
    match encoded {
        Ok(length) if length <= MAX_MESSAGE_BYTES => {
            frames[begin..begin + LENGTH_BYTES].copy_from_slice(&(length as u32).to_le_bytes());
            Ok(())
        }
        failed => {
            frames.truncate(begin);
            Err(failed.map_or_else(ProtocolError::from, ProtocolError::TooLong))
        }
    }
}

/// Decodes a length prefix. Fails if the message is too long.
pub fn message_length(prefix: [u8; LENGTH_BYTES]) -> Result<usize, ProtocolError> {
    match u32::from_le_bytes(prefix) as usize {
        length if length > MAX_MESSAGE_BYTES => Err(ProtocolError::TooLong(length)),
        length => Ok(length),
    }
}

/// Decodes a message, given without its length prefix.
pub fn decode<'a, T: Deserialize<'a>>(message: &'a [u8]) -> Result<T, ProtocolError> {
    Ok(postcard::from_bytes(message)?)
}

/// Removes the first reply from the received bytes; `None` until it is complete.
pub fn take_reply(received: &mut Vec<u8>) -> Result<Option<Reply>, ProtocolError> {
    let Some(prefix) = received.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let end = LENGTH_BYTES + message_length(*prefix)?;
    let Some(message) = received.get(LENGTH_BYTES..end) else { return Ok(None) };
    let reply = decode(message)?;
    received.drain(..end);
    Ok(Some(reply))
}
