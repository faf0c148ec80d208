//! Names by one encoder, likeness between images by another.
//!
//! CLIP knows names, but its image-image similarity is poor; an encoder that never saw a text has the opposite strength
//! (OTFusion, arXiv 2506.13723). Here each image has two vectors: `x`, which is compared with the names, and `y`, which is
//! compared with those of the support images:
//!
//! ```text
//! logit_c = logit_scale * s_c + g (k_c + d_c) - 5 h x_c
//! ```
//!
//! The gate `g`, the familiarity `h`, the claims `x_c` and the reliability are those of
//! [gated TIP-X](super::gated_tip_x), with `y` wherever it compares images. The support set has two terms, which replace
//! those of TIP-X:
//!
//! **The cache** is the mean over the support rows of `c`, weighted by the names' probability `w_i` of their category
//! (1 if labelled), of `exp(0.2 (a_i - mean) / sd)`: `a_i` is the cosine of the likeness vectors, `mean` and `sd` are
//! those of the pairs of support rows. So its sharpness is found without labels, for any encoder.
//!
//! **The discriminant** is that of two Gaussians with a shared covariance and a ridge, on likeness vectors, with the same
//! weights (see [`gda`](super::gda)).
//!
//! **Their sizes.** Both are centred, over the categories with support, and multiplied so that their standard deviation over
//! these categories, averaged over the support rows, each by the fit without it, is a share of that of the names' logits:
//!
//! ```text
//! lambda / 2 * N / (N + 4) * share        share of d: R N / (N + 4), of k: the rest
//! ```
//!
//! where `N` is the usual number of rows of a category and `R` the mean reliability. A discriminant needs many rows,
//! and rows that show their categories. The cache needs less.
//!
//! **An uninformative encoder.** With `kappa` the share of the support rows whose category cache and discriminant find
//! without the row, plus its standard error, beyond chance (0) and at most 1, both terms are multiplied by `min(1,
//! kappa / 0.5)^2`, and the claims by `min(1, kappa / 0.25)`: otherwise, their sizes would make noise count as much as
//! the terms of a good encoder.
//!
//! **Absent categories** have the terms of the other one that gains most, minus 0.5, as in gated TIP-X.
//!
//! **Probabilities**, too, are those of gated TIP-X; but the accuracy that is expected of the support rows without labels is
//! the mean of how often the logits, without the row, keep its category, and of the names' confidence.
//!
//! All constants are frozen at fit, so that the label of an image depends on that image alone. They were chosen with a
//! program outside of this project: docs/methods.md says on which sets.

mod explain;
mod fit;
mod grid_search;
mod sharpness;
mod sizes;
mod terms;

pub use fit::Likeness;
pub use grid_search::{LikenessGridSearch, LikenessTuned};
