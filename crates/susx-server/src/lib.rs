//! The inference process of susx.
//!
//! PostgreSQL never runs native inference code: a backend sends image bytes and text over a Unix
//! socket to this process, which decodes, tokenizes, batches and runs ONNX Runtime. It has no shared
//! memory attached, so that a decoder or a GPU driver that kills it costs no backend more than one
//! failed request. One copy of each model serves every connection.
//!
//! The path of one image: [`connection`] takes room for its frame from the [`budget`], reads it and puts
//! what is in it into its model's [`queue`]; a
//! [`lane`] takes a batch from the queue, decodes and encodes it, and gives the embedding to the
//! [`request`] it belongs to, which replies once it has them all. The path of a prompt to an image is the
//! same, with a [`painter`] in place of the lane. The [`registry`] loads models when they are asked for, and
//! unloads them again.
//!
//! The extension depends on this crate without its `server` feature: it gets [`protocol`],
//! [`limits`] and [`log_lines`] alone.

pub mod limits;
pub mod log_lines;
pub mod protocol;

#[cfg(feature = "diffusion")]
use susx_diffusion as diffusion;

#[cfg(feature = "server")]
mod budget;
#[cfg(feature = "server")]
pub mod connection;
#[cfg(feature = "server")]
mod described;
#[cfg(all(feature = "server", not(feature = "diffusion")))]
#[path = "no_diffusion.rs"]
mod diffusion;
#[cfg(feature = "server")]
mod embedder;
#[cfg(feature = "server")]
mod failure;
#[cfg(feature = "server")]
mod lane;
#[cfg(feature = "server")]
pub mod listen;
#[cfg(feature = "server")]
mod loader;
#[cfg(feature = "server")]
mod loading;
#[cfg(feature = "server")]
mod memory;
#[cfg(feature = "server")]
mod names;
#[cfg(feature = "server")]
mod painter;
#[cfg(feature = "server")]
mod pixels;
#[cfg(feature = "server")]
mod queue;
#[cfg(feature = "server")]
mod registry;
#[cfg(feature = "server")]
mod replies;
#[cfg(feature = "server")]
mod request;
#[cfg(feature = "server")]
mod running;
#[cfg(feature = "server")]
pub mod settings;
#[cfg(feature = "server")]
mod slots;
#[cfg(feature = "server")]
mod stats;
#[cfg(feature = "server")]
mod stuck;
#[cfg(feature = "server")]
mod watch;
#[cfg(feature = "server")]
mod weight;
