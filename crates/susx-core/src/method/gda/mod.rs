//! A Gaussian discriminant on the support set (Wang et al., "A Hard-to-Beat Baseline for Training-free CLIP-Based
//! Adaptation", ICLR 2024), added to the zero-shot scores and weighted by the reliability of each category's support.
//! The weighting makes it work with unlabelled support images.
//!
//! With `s_c` the cosine of a query to the name of category `c`, `x_i` the support rows and `a_i` their weights, each
//! category is a Gaussian about its weighted mean, and all share one covariance:
//!
//! ```text
//! mu_c = sum over i in c of a_i x_i / sum of a_i          S = sum of a_i (x_i - mu)(x_i - mu)^T
//! P = (S / t + ridge I)^-1 with t = tr(S) / d             g_c(x) = x . P mu_c - mu_c . P mu_c / 2
//! ```
//!
//! A category without rows has the mean of all rows. The weight of a labelled row is 1. That of another row is the
//! product of two shares of its category: the share in a softmax of its cosines, at a scale found without labels, and
//! `p_i`, the share in a softmax of the sum of zero-shot score and discriminant, where the discriminant is fitted
//! without the row.
//!
//! `s` and `g` are taken relative to their means over the categories (`s'`, `g'`), and a factor brings `g'` into the
//! range of `s'`. Retrieved images that show another category bias `g'` towards some categories for every query. The
//! reliability of a support row, `q_i p_i`, where `q_i` is the zero-shot probability of its category (1 if it is
//! labelled), estimates how many such images there are, and the bias is removed in proportion:
//!
//! ```text
//! k = share of rows that are not labelled * min(1, 2 (1 - mean of q_i p_i))
//! g''_c(x) = g'_c(x) - k * mean over the support rows i of g'_c(x_i), by the fit without i
//! ```
//!
//! The reliability `r_c` of a category's support is the sum of its rows' `q_i p_i`, divided by `n_c + 4`. The weight of
//! the discriminant depends on `r`, the mean of the `r_c` over the categories that the query may belong to, given by a
//! softmax of its cosines:
//!
//! ```text
//! r = sum of softmax(gate s)_c r_c                R = lambda' r^3
//! score_c = 1.75 logit_scale * (s'_c + R g''_c) / (1 + R)
//! ```
//!
//! `lambda'` is lambda, increased if zero-shot CLIP separates the categories less than usual. The 1.75 calibrates the
//! probabilities: labels that the support set confirms are correct more often than zero-shot CLIP expects. If all `r_c`
//! are 0, the ranking is that of zero-shot CLIP. A query costs two products of length `d` per category, regardless of
//! the size of the support set.
//!
//! All constants are frozen at fit, so that the label of an image depends on that image alone.

mod calibration;
mod confidence;
mod discriminant;
mod fit;
mod fitted;
mod grid_search;
mod influence;
mod inverse;
mod leave_one_out;
mod precision;
mod reliability;
mod sums;
mod weighting;

pub(super) use confidence::Confidence;
pub(super) use discriminant::Discriminant;
pub use fit::Gda;
pub(super) use fitted::FittedGda;
pub use grid_search::{GdaGrid, GdaGridSearch, GdaTuned};
pub(super) use influence::Influence;
pub(super) use reliability::{Trust, trust};
pub(super) use sums::{MIN_MASS, Sums};

/// Name of the discriminant term.
pub(super) const TERM: &str = "discriminant";
