//! TIP-X (arXiv 2211.16198, section 3.2): class logits from an image feature, zeroshot weights and a support set, without
//! training.
//!
//! With `W` the zeroshot weights, `s(x) = W x` the cosines of a feature to all categories, `p = softmax(s(f)/T)`,
//! `q_i = softmax(s(F_i)/T)` and `A_i = f . F_i`, the logit of category `c` is
//!
//! ```text
//!   logit_scale * s_c(f)                                      zero-shot CLIP
//! + alpha * (n/n_c) * sum over i in c of exp(-beta (1 - A_i))  Tip-Adapter's cache
//! - gamma * (n/n_c) * sum over i in c of (a KL(p || q_i) + b)  TIP-X
//! ```
//!
//! where `n_c` is the number of support rows of `c`, `n` the mean of the `n_c`, and `a`, `b` bring the divergences into
//! the range of the affinities. The published code takes `a` and `b` from the batch of queries; here [`TipX::fit`]
//! freezes them, so that the label of an image depends on that image alone. The factor `n/n_c` is 1 for the balanced
//! support sets of the paper. [`TipX::terms`] says what a category without support gets.

mod fit;
mod grid_search;
mod kl;
mod leave_one_out;
mod parts;
mod scale;

pub use super::tip_adapter::Terms;
pub(super) use fit::Saved;
pub use fit::TipX;
pub use grid_search::{TipXGrid, TipXGridSearch, TipXTuned};
pub use leave_one_out::LeaveOneOut;
pub use parts::LogitParts;
pub use scale::AffinityScale;

/// Name of the KL term.
pub(super) const TERM: &str = "kl";
