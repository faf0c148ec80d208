//! A fitted classifier, its parameters and its answers.

mod explanation;
mod fits;
mod fitted;
mod known;
mod negatives;
mod otsu;
mod params;
mod ranking;
mod reject;
mod saved;
mod tags;

pub use explanation::{Contribution, Explanation};
pub use fitted::{Answer, Classifier};
pub use known::Known;
pub use negatives::least_alike;
pub use otsu::Otsu;
pub use params::{ClassifierParams, ParamError, PartialParams, ValidParams};
pub use ranking::{Ranked, softmax, top_k};
pub use reject::best_reject;
pub use tags::Tag;
