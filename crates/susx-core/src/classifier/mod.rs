//! A fitted classifier, its parameters and its answers.

mod explanation;
mod fitted;
mod params;
mod ranking;

pub use explanation::{Contribution, Explanation};
pub use fitted::Classifier;
pub use params::{ClassifierParams, ParamError, PartialParams, ValidParams};
pub use ranking::{Ranked, softmax, top_k};
