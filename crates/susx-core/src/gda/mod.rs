//! A Gaussian discriminant on the support set (Wang et al., "A Hard-to-Beat Baseline for Training-free
//! CLIP-Based Adaptation", ICLR 2024), beside the names and as far as each category's support can be
//! trusted: what it takes to work on support images that nobody has labelled.
//!
//! With `s_c` the cosine of a query to the name of category `c`, `x_i` the support rows and `a_i` their weights,
//! each category is a Gaussian about its weighted mean, all with one covariance:
//!
//! ```text
//! mu_c = sum over i in c of a_i x_i / sum of a_i          S = sum of a_i (x_i - mu)(x_i - mu)^T
//! P = (S / t + ridge I)^-1 with t = tr(S) / d             g_c(x) = x . P mu_c - mu_c . P mu_c / 2
//! ```
//!
//! A category without rows has the mean of all of them. A labelled row weighs 1. Another one weighs what it is to
//! the names, its category's share in a softmax of its cosines whose scale is found without labels, times `p_i`: its
//! category's share in the softmax of the names and the discriminant that is fitted without it, together.
//!
//! `s` and `g` are taken relative to their means over the categories (`s'`, `g'`), and `g'` is brought into the
//! range of `s'` by a factor. Retrieved images that are of another category make `g'` prefer some categories whatever
//! the query. What a support row is likely worth, `q_i p_i` with `q_i` the names' own probability of its category
//! (1 if it is labelled), says how many of them there are, and that much of the preference is taken off:
//!
//! ```text
//! k = share of rows that are not labelled * min(1, 2 (1 - mean of q_i p_i))
//! g''_c(x) = g'_c(x) - k * mean over the support rows i of g'_c(x_i), by the fit without i
//! ```
//!
//! The reliability `r_c` of each category's support is the sum of its rows' `q_i p_i` over `n_c + 4`. How far the
//! support set decides is how far the categories that the query may be of are supported: `r`, the mean of `r_c`
//! under a softmax of its own cosines:
//!
//! ```text
//! r = sum of softmax(gate s)_c r_c                R = lambda' r^3
//! score_c = 1.75 logit_scale * (s'_c + R g''_c) / (1 + R)
//! ```
//!
//! `lambda'` is lambda, times more where the names are less sure than usual. The 1.75 is for the probabilities: what
//! the support set has confirmed is right more often than the names alone are sure of. With all `r_c` 0 they have the
//! order of the names. A query costs two products of length `d` per category, whatever the size of the support set.
//!
//! All constants are frozen at fit, so that a row's label depends on that row alone.

mod confidence;
mod discriminant;
mod explain;
mod fit;
mod inverse;
mod leave_one_out;
mod moments;
mod params;
mod precision;
mod tune;

pub use explain::Influence;
pub use fit::Gda;
pub use moments::{looks_absent, reliability};
pub use params::Params;
pub use tune::{Grid, Search, Tuned};
