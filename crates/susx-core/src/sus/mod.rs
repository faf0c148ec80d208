//! SuS: from category names to zeroshot weights and a support set.

mod cupl;
mod distinct;
mod generation;
mod numbers;
mod prompts;
mod retrieve;
mod saved;
mod support_set;
mod support_set_builder;

pub use cupl::{CuplError, parse_cupl};
pub use distinct::{Distinct, ImageVector};
pub use generation::{Recipe, image_seed, in_random_order};
pub use numbers::SharedBytes;
pub use prompts::{PLACEHOLDER, PromptError, common_template, fill_templates};
pub use retrieve::{Candidate, Retrieval};
pub(crate) use saved::{Outline, padded, write_padded};
pub use support_set::{MOST_CATEGORIES, MOST_NEGATIVES, MOST_NUMBERS, SupportError, SupportSet, unit};
pub(crate) use support_set::{evenly_spaced, sample};
pub use support_set_builder::SupportSetBuilder;
