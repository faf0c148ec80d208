//! Prompts: sentences that describe a category.

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
}
