//! SuS: from category names to zeroshot weights and a support set.

mod cupl;
mod prompts;
mod retrieve;
mod support_set;

pub use cupl::{CuplError, parse_cupl};
pub use prompts::{PromptError, fill_templates};
pub use retrieve::{Candidate, Retrieval};
pub(crate) use support_set::sample;
pub use support_set::{SupportError, SupportSet, SupportSetBuilder, unit};
