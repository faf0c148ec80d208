//! TIP-X behind a gate: the support set is weighted by how reliable it is for the image.
//!
//! TIP-X takes every support set at its word. If the pool does not show a category, the category's support images are of
//! other things, and images get other labels than their names would give them. Here the support set's terms have a
//! weight `g`, which depends on the image, and names that the pool seems not to show lose a part of their logit:
//!
//! ```text
//! logit_c = logit_scale * s_c + g * e_c - 5 h x_c        e_c = cache and KL term of TIP-X
//! ```
//!
//! With `g = h = 0` this is zero-shot CLIP. With labelled support in every category it is TIP-X.
//!
//! **The gate.** An image that is *more* like a name than the name's own support images are is probably of a category
//! that the pool does not show. With `b_c` the mean cosine of the support rows of `c` to their name, `sd_c` the
//! standard deviation of another row around it, and `u_c` the share of the unlabelled rows,
//!
//! ```text
//! p   = softmax(gate s)                            categories that the image may belong to, as for gda
//! v_c = 1 - u_c / (1 + exp(-((s_c - b_c) / sd_c - 1) / 0.3))
//! V   = sum of p_c v_c                             familiarity
//! rho = sum of p_c v_c r_c                         trust
//! g   = V^4 min(1, rho / 0.5)^2
//! ```
//!
//! The reliability `r_c` of a category's support is the mean over its rows of `q_i p_i` (see [`gda`](super::gda)) times
//! the share that the category has in the votes of the row's five nearest neighbours, against the strongest other
//! category. Labelled rows count 1.
//!
//! **The claims.** `x_c` says how far other categories claim the support rows of `c`: the mean over the rows of
//!
//! ```text
//! max(0, votes for d - votes for c) / 15 * max(0, 1 - n_c / n_d) * min(1, r_d / 0.5)
//! ```
//!
//! where the row and its 16 nearest neighbours vote, `d` is the category with the most votes apart from `c`, and `n_c`
//! is the number of rows. Without rows, `x_c` is the mean reliability of all rows, as a share of 0.5 and at most 1. The
//! image is known (`h` = 1) if its largest cosine to a support row is that of a support row to its nearest neighbour:
//! `h` rises from 0 to 1 between the quantiles 0.35 and 0.9 of these.
//!
//! **Absent categories.** A category with less than 0.15 of the usual number of rows has the terms of the other category
//! that gains most, minus 0.5, so that its name has to decide.
//!
//! **Probabilities** are the softmax of `k / (1 + t g (1 + h))` times the logits, which changes no order. `k` and `t` are
//! found at fit, from the support rows, each as the others label it: see `sharpness.rs`.
//!
//! All constants are frozen at fit, so that the label of an image depends on that image alone. They were chosen with a
//! program outside of this project. docs/methods.md says on which sets, and what carried over to others.

mod absent;
mod claims;
mod fit;
mod gate;
mod neighbours;
mod parts;
pub(super) mod sharpness;
mod support;
mod typical;

pub(super) use absent::{Absent, DEFICIT};
pub(super) use claims::Claims;
pub use fit::GatedTipX;
pub(super) use gate::Gate;
pub use gate::GateReading;
pub(super) use support::Worth;
pub use support::{looks_absent, reliability};

/// Name of the term that takes from names that other names claim.
pub(super) const TERM: &str = "claims";
