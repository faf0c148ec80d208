//! SuS-X (arXiv 2211.16198) without PostgreSQL.
//!
//! * [`classifier`]: a support set ready to answer, by whatever method.
//! * [`clip`]: from image bytes and text to CLIP embeddings (feature `inference`).
//! * [`evaluate`]: from answers and labels to precision and recall.
//! * [`fit_cache`]: fits that are kept, and when they may answer.
//! * [`gda`]: a Gaussian discriminant on the support set.
//! * [`interrupt`]: how a caller leaves a long computation.
//! * [`onnx`]: ONNX Runtime, its execution providers and the files of models (feature `inference`).
//! * [`sus`]: from category names to zeroshot weights and a support set.
//! * [`tip_x`]: from an embedding and a support set to class logits.
//! * [`tune`]: the settings of TIP-X that are right most often.

pub mod classifier;
#[cfg(feature = "inference")]
pub mod clip;
pub mod evaluate;
pub mod fit_cache;
pub mod gda;
pub mod interrupt;
mod linalg;
#[cfg(feature = "inference")]
pub mod onnx;
pub mod sus;
pub mod tip_x;
pub mod tune;
