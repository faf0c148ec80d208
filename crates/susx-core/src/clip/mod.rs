//! CLIP encoders on ONNX Runtime.
//!
//! The path of one image: bytes of a file → [`decode_rgb`] → 8-bit RGB, upright and on white →
//! [`Preprocessor::pixel_values_into`] → `pixel_values` → [`ClipModel::image_features`] → a unit
//! vector. The path of one text: [`ClipTokenizer::encode`] → token ids →
//! [`ClipModel::text_features`] → a unit vector of the same space.
//!
//! A model is a directory ([`ModelConfig`]), loaded by [`ClipModel::load`] on an [`OnnxRuntime`].
//! Decoding and preprocessing run on the caller's thread, and a decoder's panic is the caller's to catch.
//! The pieces of a batch that several sessions share run on rayon's pool; a tokenizer and ONNX Runtime have
//! threads of their own.

pub(crate) mod capacity;
pub(crate) mod choice;
pub(crate) mod config;
mod cut;
mod decode;
pub(crate) mod digest;
mod encoders;
pub(crate) mod error;
mod external_data;
mod graph;
mod model;
pub(crate) mod model_dir;
mod preprocess;
mod preprocessor_config;
pub(crate) mod profile;
pub(crate) mod provider;
pub(crate) mod read;
mod runtime;
pub(crate) mod session_graph;
mod sessions;
pub(crate) mod shapes;
mod stamp;
pub(crate) mod tokenizer;
mod tower;

pub use choice::Elsewhere;
pub use config::{ModelConfig, ModelKind};
pub use decode::{IMAGE_FORMATS, ImageLimits, decode_rgb, decode_rgb_when};
pub use error::{ClipError, Result};
pub use model::ClipModel;
pub use model_dir::{ModelFiles, check_model_name, list_models, model_names};
pub use preprocess::{PreprocessScratch, Preprocessor};
pub use preprocessor_config::{PreprocessorConfig, Resample, Resize};
pub use provider::{ExecutionProvider, SessionOptions};
pub use runtime::OnnxRuntime;
pub use stamp::{Stamp, stamp};
pub use tokenizer::{ClipTokenizer, Padding, TokenBatch, TokenIds};
