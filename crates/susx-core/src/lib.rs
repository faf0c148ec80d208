//! SuS-X (arXiv 2211.16198) without PostgreSQL.
//!
//! * [`clip`]: from image bytes and text to CLIP embeddings (feature `inference`).
//! * [`evaluate`]: from answers and labels to precision and recall.
//! * [`sus`]: from category names to zeroshot weights and a support set.
//! * [`tip_x`]: from an embedding and a support set to class logits.
//! * [`tune`]: the settings of TIP-X that are right most often.

#[cfg(feature = "inference")]
pub mod clip;
pub mod evaluate;
mod linalg;
pub mod sus;
pub mod tip_x;
pub mod tune;
