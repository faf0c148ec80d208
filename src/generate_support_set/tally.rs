//! What has become of the images of a call.

use susx_server::protocol::Failure;

use super::plan::Plan;
use crate::pg::message::{note, warn};

/// Categories that a message names.
const NAMED: usize = 10;

/// Reasons that are told apart.
const REASONS: usize = 100;

/// Counts of images.
#[derive(Debug, Default)]
pub struct Tally {
    pub made: u64,
    /// What went wrong, in which categories, and how often in each.
    failures: Vec<(String, Vec<(String, u64)>)>,
}

impl Tally {
    pub fn fail(&mut self, category: &str, failure: Failure) {
        let message = failure.message;
        let place = self.failures.iter().position(|(known, _)| *known == message);
        // Where each image fails for a reason of its own, the first ones tell enough.
        let place = place.or((self.failures.len() >= REASONS).then_some(REASONS - 1));
        let place = place.unwrap_or_else(|| {
            self.failures.push((message, Vec::new()));
            self.failures.len() - 1
        });
        let categories = &mut self.failures[place].1;
        match categories.last_mut() {
            Some((last, count)) if last == category => *count += 1,
            _ => categories.push((category.to_owned(), 1)),
        }
    }

    /// Images that were made, or that could not be.
    pub fn answered(&self) -> u64 {
        self.made + self.failures.iter().map(|(_, categories)| count(categories)).sum::<u64>()
    }

    /// Says what was done, and what was not.
    pub fn report(&self, classifier: &str, plan: &Plan) {
        for (message, categories) in &self.failures {
            let named: Vec<String> =
                categories.iter().take(NAMED).map(|(name, count)| format!("{name} ({count})")).collect();
            let more = categories.len() - named.len();
            let more = if more > 0 { format!(" and {more} more categories") } else { String::new() };
            let (failed, named) = (count(categories), named.join(", "));
            warn(format!("{failed} images of \"{classifier}\" were not generated: {message}: {named}{more}"));
        }
        if !plan.without.is_empty() {
            let named = plan.without.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = plan.without.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            note(format!("categories without such prompts have no generated images: {named}{more}"));
        }
        let wanted = plan.wanted();
        let (made, there) = (self.made, wanted - plan.missing());
        let categories = plan.categories.len();
        note(format!(
            "\"{classifier}\": {made} images generated for {categories} categories, {there} of {wanted} were there"
        ));
    }
}

fn count(categories: &[(String, u64)]) -> u64 {
    categories.iter().map(|(_, count)| count).sum()
}
