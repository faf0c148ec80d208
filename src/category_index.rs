//! The categories of a classifier, found by their names.

use std::collections::HashMap;

use crate::pg::catalog::classifier::{ClassifierError, known};

/// The index of each category.
#[derive(Debug)]
pub struct CategoryIndex<'a> {
    classifier: &'a str,
    categories: &'a [String],
    index: HashMap<&'a str, usize>,
}

impl<'a> CategoryIndex<'a> {
    /// `classifier` is its name, for errors.
    pub fn new(classifier: &'a str, categories: &'a [String]) -> Self {
        let index = (0..).zip(categories).map(|(i, name)| (name.as_str(), i)).collect();
        CategoryIndex { classifier, categories, index }
    }

    /// The index of a category. An error if there is none of that name.
    pub fn of(&self, category: String) -> Result<usize, ClassifierError> {
        self.index.get(category.as_str()).copied().ok_or_else(|| ClassifierError::NoCategory {
            classifier: self.classifier.to_owned(),
            category,
            known: known(self.categories),
        })
    }
}
