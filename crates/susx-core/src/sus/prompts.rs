//! Prompts: sentences that describe a category.

use std::collections::HashSet;

/// Placeholder for the category's name in a template, as in CLIP's own prompt lists.
pub const PLACEHOLDER: &str = "{}";

/// Why templates give no prompts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// The list of templates is empty.
    #[error("there is no template")]
    NoTemplate,
    /// A template has no placeholder.
    #[error("template \"{0}\" has no {{}} for the category's name")]
    NoPlaceholder(String),
}

/// The prompts of a category: each template with the placeholder replaced by the name.
pub fn fill_templates(templates: &[&str], category: &str) -> Result<Vec<String>, PromptError> {
    if templates.is_empty() {
        return Err(PromptError::NoTemplate);
    }
    templates
        .iter()
        .map(|template| match template.contains(PLACEHOLDER) {
            true => Ok(template.replace(PLACEHOLDER, category)),
            false => Err(PromptError::NoPlaceholder((*template).to_owned())),
        })
        .collect()
}

/// The template that all prompts of `(category, text)` were made from; `None` unless it is the same one for all, and there
/// is one prompt per category.
pub fn common_template(prompts: &[(String, String)]) -> Option<String> {
    // A long name is least likely to be part of the template as well.
    let (name, text) = prompts.iter().max_by_key(|(category, _)| category.len())?;
    let template = text.replace(name.as_str(), PLACEHOLDER);
    let is_made =
        |(category, text): &(String, String)| template.replace(PLACEHOLDER, category.as_str()) == *text;
    let categories: HashSet<&String> = prompts.iter().map(|(category, _)| category).collect();
    let is_common = !name.is_empty()
        && template.contains(PLACEHOLDER)
        && categories.len() == prompts.len()
        && prompts.iter().all(is_made);
    is_common.then_some(template)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_gets_the_name() {
        let prompts = fill_templates(&["a photo of a {}.", "{}, a kind of {}"], "cat");
        assert_eq!(prompts, Ok(vec!["a photo of a cat.".to_owned(), "cat, a kind of cat".to_owned()]));
        // Braces in a name are not a placeholder.
        assert_eq!(fill_templates(&["a {}"], "{}"), Ok(vec!["a {}".to_owned()]));
        assert_eq!(fill_templates(&["a photo"], "cat"), Err(PromptError::NoPlaceholder("a photo".into())));
        assert_eq!(fill_templates(&[], "cat"), Err(PromptError::NoTemplate));
    }
    #[test]
    fn the_template_of_prompts() {
        let of = |prompts: &[(&str, &str)]| {
            let owned = |&(category, text): &(&str, &str)| (category.to_owned(), text.to_owned());
            common_template(&prompts.iter().map(owned).collect::<Vec<_>>())
        };
        assert_eq!(
            of(&[("a", "a picture of a"), ("bird", "a picture of bird")]),
            Some("a picture of {}".into())
        );
        assert_eq!(of(&[("cat", "cat, a cat")]), Some("{}, a {}".into()));
        // Two templates, or prompts that were not made from one.
        assert_eq!(of(&[("cat", "a cat"), ("cat", "the cat")]), None);
        assert_eq!(of(&[("cat", "a cat"), ("dog", "the dog")]), None);
        assert_eq!(of(&[("cat", "an animal")]), None);
        assert_eq!(of(&[]), None);
    }
}
