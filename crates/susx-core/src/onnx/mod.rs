//! ONNX Runtime: the library, execution providers, graphs, and the files of a model.
//!
//! This module knows neither CLIP nor Stable Diffusion. Loading a model goes through it in this order: [`model_dir`]
//! finds the directory, [`digest`] identifies its files, [`capacity`] checks that they fit into memory, and
//! [`select`] tries the [`Candidate`] providers of the [`SessionOptions`] until one really runs the graphs, which a
//! [`GraphProfile`] proves. A [`Graph`] is then run on tensors of [`floats`] and [`integers`].

#![warn(missing_docs)]

pub mod capacity;
pub mod digest;
mod error;
mod external_data;
pub mod files;
mod graph;
mod header;
pub mod model_dir;
mod profile;
mod provider;
pub mod python_json;
mod runtime;
mod selection;
mod session_options;
mod sessions;
mod shapes;
mod stamp;

pub use error::{OnnxError, Result, WrapsOnnxError};
pub use graph::{Graph, Port, Values, floats, integers, read_floats};
pub use header::Header;
pub use profile::{GraphProfile, ProfileFolder, ProviderProfile};
pub use provider::{Candidate, ExecutionProvider};
pub use runtime::OnnxRuntime;
pub use selection::{PartialFallback, Selection, select};
pub use session_options::SessionOptions;
pub use sessions::{Concurrency, threads_of_sessions};
pub use shapes::{Piece, RowShape};
pub use stamp::{Stamp, stamp};
