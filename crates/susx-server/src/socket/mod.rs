//! The socket: connections of backends, their requests and the replies to them.

pub(crate) mod budget;
pub mod connection;
pub mod listen;
pub(crate) mod replies;
mod reply_size;
