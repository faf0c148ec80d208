//! The inference process of susx.
//!
//! PostgreSQL never runs native inference code. A backend sends image bytes and text over a Unix socket to this
//! process, which decodes, tokenizes, batches and runs ONNX Runtime. The process is not attached to shared memory, so
//! a crash of a decoder or a GPU driver costs a backend one failed request. All connections share one copy of each
//! model.
//!
//! The path of one image:
//!
//! 1. [`socket`] reserves memory for its message in the budget, reads it and finds its model in `models`, which
//!    loads the model if need be.
//! 2. `batching` puts it into the model's queue. A task takes a batch from the queue, decodes and encodes it, and
//!    hands each embedding to the request that it belongs to.
//! 3. The request replies through [`socket`] once it has all of its answers.
//!
//! A prompt for image generation takes the same path. The `watchdog` ends the process when a model never finishes.
//!
//! The same program has tools for administrators ([`command_line`]): `fetch` downloads a model, and `check` loads one
//! and tests it. The process that serves PostgreSQL runs neither, and opens no network connection.
//!
//! The extension depends on this crate without its `server` feature, and then gets only [`protocol`], [`limits`] and
//! [`log_lines`].

pub mod limits;
pub mod log_lines;
pub mod protocol;

#[cfg(feature = "diffusion")]
use susx_diffusion as diffusion;
#[cfg(all(feature = "server", not(feature = "diffusion")))]
#[path = "no_diffusion.rs"]
mod diffusion;

#[cfg(feature = "server")]
mod batching;
#[cfg(feature = "server")]
mod check;
#[cfg(feature = "server")]
pub mod command_line;
#[cfg(feature = "server")]
mod failure;
#[cfg(feature = "fetch")]
mod fetch;
#[cfg(feature = "server")]
mod memory;
#[cfg(feature = "server")]
mod models;
#[cfg(feature = "server")]
pub mod settings;
#[cfg(feature = "server")]
pub mod socket;
#[cfg(feature = "server")]
mod stats;
#[cfg(feature = "server")]
mod watchdog;
