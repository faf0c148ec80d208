//! TIP-X behind a gate: the support set speaks as far as it can be trusted about the image.
//!
//! TIP-X takes every support set at its word. If the pool does not show a category, its support images are of other
//! things, and images of the category get other labels than their names would give them. Here the support set's terms
//! have a weight `g`, which depends on the image:
//!
//! ```text
//! logit_c = logit_scale * s_c + g * e_c        e_c = cache and KL term of TIP-X
//! ```
//!
//! With `g = 0` this is zero-shot CLIP, with `g = 1` it is TIP-X. The signal: an image that is *more* like a name than
//! the name's own support images are is probably of a category that the pool does not show. With `b_c` the mean cosine of
//! the support rows of `c` to their name and `sd` the standard deviation around these means,
//!
//! ```text
//! p   = softmax(gate s)                               categories that the image may belong to, as for gda
//! v_c = 1 / (1 + exp(((s_c - b_c) / sd - 1) / 0.3))   is the image no more like the name than they are?
//! V   = sum of p_c v_c                                familiarity
//! rho = sum of p_c v_c r_c                            trust; r_c is the reliability of gda
//! g   = V^4 min(1, rho / 0.7)^3
//! ```
//!
//! A category with less than 0.15 of the usual number of support rows counts as absent: its terms are those of the other
//! category that gains most, minus 0.5, so that its name has to decide.
//!
//! All constants are frozen at fit, so that the label of an image depends on that image alone.

mod absent;
mod fit;
mod gate;
mod typical;

pub(super) use fit::GatedTipX;
pub use gate::GateReading;
