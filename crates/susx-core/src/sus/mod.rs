//! SuS: from category names to zeroshot weights and a support set.

mod cupl;
#[cfg(feature = "inference")]
pub mod diffusion;
mod prompts;
mod retrieve;
mod support_set;

pub use cupl::{CuplError, parse_cupl};
pub use prompts::{PromptError, fill_templates};
pub use retrieve::{Candidate, Retrieval};
pub use support_set::{SupportError, SupportSet, SupportSetBuilder, unit};
