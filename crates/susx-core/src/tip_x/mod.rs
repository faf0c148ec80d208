//! TIP-X (arXiv 2211.16198, section 3.2): class logits from an image feature, zeroshot weights and a
//! support set, without training.
//!
//! With `W` the zeroshot weights, `s(x) = W x` the cosines of a feature to every category,
//! `p = softmax(s(f)/T)`, `q_i = softmax(s(F_i)/T)` and `A_i = f . F_i`, the logit of category `c` is
//!
//! ```text
//!   logit_scale * s_c(f)                                      zero-shot CLIP
//! + alpha * (n/n_c) * sum over i in c of exp(-beta (1 - A_i))  Tip-Adapter's cache
//! - gamma * (n/n_c) * sum over i in c of (a KL(p || q_i) + b)  TIP-X
//! ```
//!
//! where `n_c` is the number of support rows of `c`, `n` the mean of the `n_c`, and `a`, `b` bring the
//! divergences into the range of the affinities. The published code takes `a` and `b` from the batch
//! of queries; here [`TipX::fit`] freezes them, so that a row's label depends on that row alone. The
//! factor `n/n_c` is 1 for the balanced support sets of the paper. [`TipX::terms`] says what becomes of
//! a category without support.

mod explain;
mod fit;
mod kl;
mod logits;
mod params;
mod parts;
mod scale;

pub use fit::TipX;
pub use logits::Terms;
pub use params::{ParamError, Params};
pub(crate) use params::{scale, weight};
pub use parts::{LeaveOneOut, Parts};
pub use scale::AffinityScale;
