//! CLIP encoders on ONNX Runtime.
//!
//! An image goes this way: bytes of a file → [`decode_rgb`] → 8-bit RGB, upright and on white →
//! [`Preprocessor::pixel_values_into`] → `pixel_values` → [`ClipModel::image_features`] → a unit
//! vector. A text: [`ClipTokenizer::encode`] → token ids → [`ClipModel::text_features`] → a unit
//! vector in the same space.
//!
//! A model is a directory ([`ModelConfig`]), checked by [`ModelCheck`] and loaded by [`ClipModel::load`] on an
//! [`OnnxRuntime`](crate::onnx::OnnxRuntime). Decoding and preprocessing run on the caller's thread, and the caller
//! must catch a decoder's panic. Pieces of a batch that several sessions share run on rayon's pool. A tokenizer and
//! ONNX Runtime have their own threads.

#![warn(missing_docs)]

mod centre_crop;
mod check;
mod config;
mod cut;
mod decode;
mod digest;
mod encoder;
mod encoder_graph;
mod encoders;
mod error;
mod layout;
mod list;
mod model;
mod model_files;
mod open_clip_config;
mod pad;
mod padding_probe;
mod picture;
mod pooling;
mod preprocess;
mod preprocessor_config;
mod resize;
mod susx_json;
mod text_form;
mod thumbnail;
mod tokenizer;

pub use centre_crop::Rounding;
pub use check::{ModelCheck, Tower};
pub use config::{ModelConfig, ModelKind};
pub use decode::info::{ImageInfo, image_info};
pub use decode::{IMAGE_FORMATS, ImageLimits, decode_picture, decode_rgb, image_format};
pub use error::{ClipError, Result};
pub use image::RgbImage;
pub use layout::Layout;
pub use list::{list_models, model_names};
pub use model::ClipModel;
pub use model_files::{BrokenEncoders, ModelFiles};
pub use pad::{Pad, PadRules, pad_token};
pub use picture::Picture;
pub use pooling::{FeatureRules, Pooling};
pub use preprocess::{PreprocessScratch, Preprocessor};
pub use preprocessor_config::{PreprocessorConfig, Resample, Resize};
pub use text_form::TextForm;
pub use thumbnail::{ThumbnailFile, thumbnail, thumbnail_reduction};
pub use tokenizer::{ClipTokenizer, Padding, TokenBatch, TokenIds, Tokenized};
