//! CLIP encoders on ONNX Runtime.
//!
//! An image goes this way: bytes of a file → [`decode_rgb`] → 8-bit RGB, upright and on white →
//! [`Preprocessor::pixel_values_into`] → `pixel_values` → [`ClipModel::image_features`] → a unit
//! vector. A text: [`ClipTokenizer::encode`] → token ids → [`ClipModel::text_features`] → a unit
//! vector in the same space.
//!
//! A model is a directory ([`ModelConfig`]), loaded by [`ClipModel::load`] on an
//! [`OnnxRuntime`](crate::onnx::OnnxRuntime). Decoding and preprocessing run on the caller's thread, and the caller must
//! catch a decoder's panic. Pieces of a batch that several sessions share run on rayon's pool. A tokenizer and
//! ONNX Runtime have threads of their own.

#![warn(missing_docs)]

mod config;
mod cut;
mod decode;
mod digest;
mod encoder;
mod encoder_graph;
mod encoders;
mod error;
mod list;
mod model;
mod model_files;
mod pad;
mod padding_probe;
mod pooling;
mod preprocess;
mod preprocessor_config;
mod text_form;
mod thumbnail;
mod tokenizer;

pub use config::{ModelConfig, ModelKind};
pub use decode::{IMAGE_FORMATS, ImageLimits, decode_rgb, decode_rgb_when};
pub use error::{ClipError, Result};
pub use image::RgbImage;
pub use list::{list_models, model_names};
pub use model::ClipModel;
pub use model_files::ModelFiles;
pub use pad::{Pad, PadRules, pad_token};
pub use pooling::{FeatureRules, Pooling};
pub use preprocess::{PreprocessScratch, Preprocessor};
pub use preprocessor_config::{PreprocessorConfig, Resample, Resize};
pub use text_form::TextForm;
pub use thumbnail::{ThumbnailFile, thumbnail};
pub use tokenizer::{ClipTokenizer, Padding, TokenBatch, TokenIds};
