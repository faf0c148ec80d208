//! SuS-X (arXiv 2211.16198) without PostgreSQL.
//!
//! * [`calibration`]: whether probabilities are correct, and at which temperature they are.
//! * [`classifier`]: a fitted classifier, its parameters and its answers.
//! * [`clip`]: from image bytes and text to CLIP embeddings (feature `inference`).
//! * [`digest`]: digests of what decides an answer.
//! * [`duplicates`]: which images are nearly the same.
//! * [`evaluate`]: from answers and labels to precision and recall.
//! * [`fit_cache`]: the fits that a session keeps, and when they may answer.
//! * [`interrupt`]: how a caller interrupts a long computation.
//! * [`method`]: the classification methods, from an embedding and a support set to class logits.
//! * [`onnx`]: ONNX Runtime, its execution providers and the files of models (feature `inference`).
//! * [`queries`]: what is classified.
//! * [`sheet`]: contact sheets.
//! * [`sus`]: from category names to zeroshot weights and a support set.

#![warn(missing_docs)]

mod as_bytes;
pub mod calibration;
pub mod classifier;
#[cfg(feature = "inference")]
pub mod clip;
pub mod digest;
pub mod duplicates;
pub mod evaluate;
pub mod fit_cache;
pub mod interrupt;
mod linalg;
pub mod method;
#[cfg(feature = "inference")]
pub mod onnx;
pub mod queries;
pub mod sheet;
pub mod sus;
