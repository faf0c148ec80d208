//! The protocol between a backend and the inference process.
//!
//! A frame is the length of the message (u32, little-endian) followed by one message in postcard's format. A
//! connection begins with [`Request::Hello`] and [`Reply::Hello`]. After that, every request has an id, chosen by the
//! backend, which its reply repeats. Replies are sent as soon as they are ready, in any order.

mod failure;
mod frame;
mod generation;
mod model;
mod reply;
mod request;
mod sheet;
mod stats;
mod thumbnail;

#[cfg(test)]
mod tests;

pub use failure::{Failure, FailureKind, model_name_too_long, too_large};
pub use frame::{ProtocolError, append, decode, encode, message_length, take_reply};
pub use generation::ImageRequest;
pub use model::{EncoderFile, Model};
pub use reply::{Cut, ImageInfo, Reply, TextEmbedding};
pub use request::{Inputs, Request};
pub use sheet::{SheetCell, SheetPicture, SheetRequest};
pub use stats::{LastError, Stats};
pub use thumbnail::{ThumbnailFormat, ThumbnailRequest};

/// Increased with every change of a message, so that a library never misreads a server of another version.
pub const PROTOCOL_VERSION: u32 = 8;

/// Size of a frame's length prefix, in bytes.
pub const LENGTH_BYTES: usize = size_of::<u32>();

/// Longest message that either side accepts, in bytes: PostgreSQL's largest value (1 GiB) and 1 MiB for the rest.
pub const MAX_MESSAGE_BYTES: usize = (1 << 30) + (1 << 20);
