//! Prompts: the sentences that stand for a category.

/// Where a template takes the category's name, as in CLIP's own prompt lists.
pub const PLACEHOLDER: &str = "{}";

/// Templates that make no prompts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    #[error("there is no template")]
    NoTemplate,
    #[error("template \"{0}\" has no {{}} for the category's name")]
    NoPlaceholder(String),
}

/// The prompts of one category: every template with the name in it.
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
        // A name with braces is a name.
        assert_eq!(fill_templates(&["a {}"], "{}"), Ok(vec!["a {}".to_owned()]));
        assert_eq!(fill_templates(&["a photo"], "cat"), Err(PromptError::NoPlaceholder("a photo".into())));
        assert_eq!(fill_templates(&[], "cat"), Err(PromptError::NoTemplate));
    }
}
