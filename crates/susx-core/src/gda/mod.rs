//! A Gaussian discriminant on the support set (Wang et al., "A Hard-to-Beat Baseline for Training-free
//! CLIP-Based Adaptation", ICLR 2024), beside the names and as far as each category's support can be
//! trusted: what it takes to work on support images that nobody has labelled.
//!
//! With `s_c` the cosine of a query to the name of category `c`, `x_i` the support rows and `a_i` their
//! confidences ([`confidence`]), each category is a Gaussian about its weighted mean, all with one
//! covariance:
//!
//! ```text
//! mu_c = sum over i in c of a_i x_i / sum of a_i         S = sum of a_i (x_i - mu)(x_i - mu)^T / freedom
//! P = (S + ridge tr(S)/d I)^-1                           g_c(x) = x . P mu_c - mu_c . P mu_c / 2
//! ```
//!
//! `g` is brought into the range of the cosines by a factor that is frozen at fit, both are taken relative
//! to their means over the categories (`g'`, `s'`), and the reliability `r_c` of the category's support
//! decides how far `g'` takes the place of `s'`:
//!
//! ```text
//! score_c = logit_scale / (1 + lambda) * (s'_c + lambda * (r_c g'_c + (1 - r_c) s'_c))
//! ```
//!
//! All of that is linear in the query, so that classifying costs one product of length `d` per category,
//! whatever the size of the support set.

mod confidence;
mod discriminant;
mod explain;
mod fit;
mod moments;
mod params;
mod precision;

pub use explain::Influence;
pub use fit::Gda;
pub use params::Params;
