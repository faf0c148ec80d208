//! The report of a call: which images were generated, and which were not.

use susx_server::protocol::Failure;

use super::plan::Plan;
use crate::pg::message::{note, warn};

/// The number of categories that a message names.
const NAMED: usize = 10;

/// The number of reasons for failures that are reported apart.
const REASONS: usize = 100;

/// Counts of images.
#[derive(Debug, Default)]
pub struct Report {
    pub generated: u64,
    /// Reasons for failures, each with its categories and how often it occurred in them.
    failures: Vec<(String, Vec<(String, u64)>)>,
}

impl Report {
    /// Counts a failure.
    pub fn fail(&mut self, category: &str, failure: Failure) {
        let message = failure.message;
        let index = self.failures.iter().position(|(known, _)| *known == message);
        // If every image fails for a different reason, the first ones are enough.
        let index = index.or((self.failures.len() >= REASONS).then_some(REASONS - 1));
        let index = index.unwrap_or_else(|| {
            self.failures.push((message, Vec::new()));
            self.failures.len() - 1
        });
        let categories = &mut self.failures[index].1;
        match categories.last_mut() {
            Some((last, count)) if last == category => *count += 1,
            _ => categories.push((category.to_owned(), 1)),
        }
    }

    /// The number of images that were generated or failed.
    pub fn answered(&self) -> u64 {
        self.generated + self.failures.iter().map(|(_, categories)| count(categories)).sum::<u64>()
    }

    /// Sends the report as messages to the client.
    pub fn send(&self, classifier: &str, plan: &Plan) {
        for (message, categories) in &self.failures {
            let named: Vec<String> =
                categories.iter().take(NAMED).map(|(name, count)| format!("{name} ({count})")).collect();
            let more = categories.len() - named.len();
            let more = if more > 0 { format!(" and {more} more categories") } else { String::new() };
            let (failed, named) = (count(categories), named.join(", "));
            warn(format!("{failed} images of \"{classifier}\" were not generated: {message}: {named}{more}"));
        }
        if !plan.without_prompts.is_empty() {
            let named =
                plan.without_prompts.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = plan.without_prompts.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            note(format!("categories without such prompts have no generated images: {named}{more}"));
        }
        let (generated, planned) = (self.generated, plan.planned());
        let existing = planned - plan.missing();
        let categories = plan.categories.len();
        note(format!(
            "\"{classifier}\": {generated} images generated for {categories} categories, {existing} of {planned} existed already"
        ));
    }
}

fn count(categories: &[(String, u64)]) -> u64 {
    categories.iter().map(|(_, count)| count).sum()
}
