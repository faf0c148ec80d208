//! The prompts by which images are retrieved.

use std::collections::HashMap;

use ndarray::Array2;
use susx_core::sus::{Retrieval, SupportSet, unit};

use crate::pg::catalog::classifier as catalog;
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::prompting::Prompting;

/// The prompts of all categories, sorted by category, one element or row per prompt.
#[derive(Debug)]
pub struct RetrievalPrompts {
    /// `None` for a prompt that was given as a vector.
    pub text: Vec<Option<String>>,
    /// Indices of the prompts' categories.
    category: Vec<usize>,
    /// Unit rows.
    embeddings: Array2<f32>,
}

impl RetrievalPrompts {
    /// An error if the classifier has no prompts for this prompting.
    pub fn read(classifier: RegClass, support_set: &SupportSet, prompting: Prompting) -> Result<Self> {
        let index: HashMap<&str, usize> =
            support_set.categories().iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
        let mut prompts = Vec::new();
        catalog::read_prompts(classifier, prompting.origins(), |name, prompt, embedding| {
            let Some(&index) = index.get(name) else { return Ok(()) };
            let within = |error| Error::from(error).within(format_args!("a prompt of category \"{name}\""));
            prompts.push((index, prompt, unit(&embedding.0).map_err(within)?));
            Ok(())
        })?;
        if prompts.is_empty() {
            return Err(prompting.no_prompts());
        }
        prompts.sort_by_key(|&(index, ..)| index);
        let (mut text, mut category, mut elements) = (Vec::new(), Vec::new(), Vec::new());
        for (index, prompt, embedding) in prompts {
            category.push(index);
            text.push(prompt);
            elements.extend(embedding);
        }
        let shape = (text.len(), support_set.dimensions());
        let embeddings = Array2::from_shape_vec(shape, elements).map_err(Error::internal)?;
        Ok(RetrievalPrompts { text, category, embeddings })
    }

    /// A retrieval of `per_class` images for each category, before any image has been offered.
    pub fn retrieval(&self, support_set: &SupportSet, per_class: usize, exclusive: bool) -> Retrieval {
        Retrieval::new(support_set, self.embeddings.clone(), self.category.clone(), per_class, exclusive)
    }
}
