//! Building a support set from rows in any order.

use std::collections::HashMap;

use super::support_set::{MOST_CATEGORIES, MOST_NEGATIVES, MOST_NUMBERS, SupportError, SupportSet, unit};
use crate::interrupt;
use crate::linalg::aligned_rows;

/// Collects the rows of a classifier in any order.
#[derive(Clone, Debug, Default)]
pub struct SupportSetBuilder {
    dimensions: usize,
    categories: Vec<CategoryRows>,
    index: HashMap<String, usize>,
    /// Number of prompts so far.
    prompts: usize,
    /// Unit features, M × d. They are sorted in place: a second copy would double a session's peak memory.
    features: Vec<f32>,
    /// Unit likeness vectors of the features that have one.
    likeness: LikenessRows,
    ids: Vec<i64>,
    labelled: Vec<bool>,
    /// Index in `categories` of each feature, M.
    category_of: Vec<usize>,
    /// Number of elements of all features so far.
    numbers: usize,
    /// Unit rows of the negatives, Q × d.
    negatives: Vec<f32>,
}

/// Likeness vectors of some of the features.
#[derive(Clone, Debug, Default)]
struct LikenessRows {
    /// Of the first one.
    dimensions: usize,
    /// Their number times e.
    rows: Vec<f32>,
}

impl LikenessRows {
    fn len(&self) -> usize {
        self.rows.len() / self.dimensions.max(1)
    }
}

#[derive(Clone, Debug)]
struct CategoryRows {
    name: String,
    /// Sum of the unit prompt embeddings, d; empty without prompts.
    prompt_sum: Vec<f64>,
    /// Number of its features.
    features: usize,
    /// Number of its first prompt among all prompts.
    first_prompt: usize,
}

impl SupportSetBuilder {
    /// An empty builder for vectors of `dimensions`.
    pub fn new(dimensions: usize) -> Self {
        SupportSetBuilder { dimensions, ..Default::default() }
    }

    /// Adds the embedding of a prompt. A category's zeroshot weight is the normalised mean of its normalised prompt
    /// embeddings (CLIP's prompt ensembling).
    pub fn push_prompt(&mut self, category: &str, embedding: &[f32]) -> Result<(), SupportError> {
        let embedding = self.check(embedding)?;
        let number = self.prompts;
        self.prompts += 1;
        let index = self.category(category);
        let rows = &mut self.categories[index];
        if rows.prompt_sum.is_empty() {
            rows.prompt_sum = vec![0.0; embedding.len()];
            rows.first_prompt = number;
        }
        for (sum, x) in rows.prompt_sum.iter_mut().zip(embedding) {
            *sum += f64::from(x);
        }
        Ok(())
    }

    /// Adds the embedding of the name of something that is none of the categories.
    pub fn push_negative(&mut self, embedding: &[f32]) -> Result<(), SupportError> {
        let embedding = self.check(embedding)?;
        let found = self.negatives.len() / self.dimensions.max(1) + 1;
        if found > MOST_NEGATIVES {
            return Err(SupportError::TooMany { what: "negatives", most: MOST_NEGATIVES, found });
        }
        self.negatives.extend(embedding);
        Ok(())
    }

    /// Adds the embedding of a labelled support image; `id` is its number in [`SupportSet::ids`].
    pub fn push_image(&mut self, category: &str, id: i64, embedding: &[f32]) -> Result<(), SupportError> {
        self.push(category, id, embedding, true)
    }

    /// Like [`push_image`](Self::push_image), for an image that was retrieved or generated from the category's name and
    /// may show something else.
    pub fn push_unlabelled_image(
        &mut self,
        category: &str,
        id: i64,
        embedding: &[f32],
    ) -> Result<(), SupportError> {
        self.push(category, id, embedding, false)
    }

    /// Adds the likeness vector of the image that was added last.
    pub fn push_likeness(&mut self, likeness: &[f32]) -> Result<(), SupportError> {
        let (expected, found) = (self.likeness.dimensions, likeness.len());
        if !self.likeness.rows.is_empty() && expected != found {
            return Err(SupportError::LikenessDimensions { expected, found });
        }
        let likeness = unit(likeness)?;
        self.count_numbers(found)?;
        self.likeness.dimensions = found;
        self.likeness.rows.extend(likeness);
        Ok(())
    }

    /// The number of support images, and of those among them that have a likeness vector.
    pub fn images(&self) -> (usize, usize) {
        (self.ids.len(), self.likeness.len())
    }

    fn push(
        &mut self,
        category: &str,
        id: i64,
        embedding: &[f32],
        is_labelled: bool,
    ) -> Result<(), SupportError> {
        let embedding = self.check(embedding)?;
        self.count_numbers(embedding.len())?;
        let category = self.category(category);
        self.categories[category].features += 1;
        self.features.extend(embedding);
        self.ids.push(id);
        self.labelled.push(is_labelled);
        self.category_of.push(category);
        Ok(())
    }

    fn count_numbers(&mut self, more: usize) -> Result<(), SupportError> {
        self.numbers += more;
        if self.numbers > MOST_NUMBERS {
            let what = "numbers in the support images (rows times dimensions)";
            return Err(SupportError::TooMany { what, most: MOST_NUMBERS, found: self.numbers });
        }
        Ok(())
    }

    /// Sorts the rows by category. Their likeness vectors are used if every image has one. An error if a category has no prompt, or a limit is exceeded.
    pub fn finish(self) -> Result<SupportSet, SupportError> {
        let SupportSetBuilder {
            dimensions,
            categories,
            mut features,
            likeness,
            mut ids,
            mut labelled,
            negatives,
            ..
        } = self;
        if let Some(category) = categories.iter().find(|category| category.prompt_sum.is_empty()) {
            return Err(SupportError::NoPrompt(category.name.clone()));
        }
        if categories.is_empty() {
            return Err(SupportError::NoCategory);
        }
        if categories.len() > MOST_CATEGORIES {
            let (most, found) = (MOST_CATEGORIES, categories.len());
            return Err(SupportError::TooMany { what: "categories", most, found });
        }
        let mut order: Vec<usize> = (0..categories.len()).collect();
        order.sort_by_key(|&c| categories[c].first_prompt);

        let mut weights = Vec::with_capacity(categories.len() * dimensions);
        let mut offsets = vec![0];
        // The next free row of each category, by its index in `categories`.
        let mut next = vec![0; categories.len()];
        let mut rows = 0;
        for &index in &order {
            interrupt::check();
            let category = &categories[index];
            let norm = category.prompt_sum.iter().map(|x| x * x).sum::<f64>().sqrt();
            if norm < 1e-9 {
                return Err(SupportError::Cancelled(category.name.clone()));
            }
            weights.extend(category.prompt_sum.iter().map(|x| (x / norm) as f32));
            next[index] = rows;
            rows += category.features;
            offsets.push(rows);
        }
        let mut targets = self.category_of;
        for target in &mut targets {
            let next = &mut next[*target];
            *target = *next;
            *next += 1;
        }
        // Of all images, or of none.
        let mut likeness = if likeness.len() == ids.len() { likeness } else { LikenessRows::default() };
        let mut rows = [(dimensions, &mut features[..]), (likeness.dimensions, &mut likeness.rows[..])];
        move_rows(&mut targets, &mut rows, &mut ids, &mut labelled);
        // The vectors have grown to larger capacities.
        features.shrink_to_fit();
        likeness.rows.shrink_to_fit();
        ids.shrink_to_fit();
        labelled.shrink_to_fit();

        let matrix = |values: Vec<f32>, dimensions: usize| {
            let shape = (values.len() / dimensions, dimensions);
            aligned_rows(values, shape)
                .map_err(|_| SupportError::Dimensions { expected: dimensions, found: 0 })
        };
        let likeness = match likeness.rows.is_empty() {
            true => None,
            false => Some(matrix(likeness.rows, likeness.dimensions)?.into()),
        };
        let mut names: Vec<String> = categories.into_iter().map(|c| c.name).collect();
        Ok(SupportSet {
            zeroshot_weights: matrix(weights, dimensions)?.into(),
            features: matrix(features, dimensions)?.into(),
            likeness,
            ids: ids.into(),
            labelled,
            offsets,
            negatives: matrix(negatives, dimensions)?.into(),
            categories: order.into_iter().map(|index| std::mem::take(&mut names[index])).collect(),
        })
    }

    fn check(&self, embedding: &[f32]) -> Result<Vec<f32>, SupportError> {
        if self.categories.len() > MOST_CATEGORIES {
            let (most, found) = (MOST_CATEGORIES, self.categories.len());
            return Err(SupportError::TooMany { what: "categories", most, found });
        }
        if embedding.len() != self.dimensions {
            return Err(SupportError::Dimensions { expected: self.dimensions, found: embedding.len() });
        }
        unit(embedding)
    }

    /// The index of a category, which is added if it is new.
    fn category(&mut self, name: &str) -> usize {
        if let Some(&index) = self.index.get(name) {
            return index;
        }
        let index = self.categories.len();
        self.index.insert(name.to_owned(), index);
        self.categories.push(CategoryRows {
            name: name.to_owned(),
            prompt_sum: Vec::new(),
            features: 0,
            first_prompt: usize::MAX,
        });
        index
    }
}

/// Moves every row of the matrices, which have this many columns, and its id and label to its target, following the
/// cycles of the permutation `targets`, which is consumed.
fn move_rows(
    targets: &mut [usize],
    matrices: &mut [(usize, &mut [f32])],
    ids: &mut [i64],
    labelled: &mut [bool],
) {
    for row in 0..targets.len() {
        while targets[row] != row {
            let target = targets[row];
            let (low, high) = (row.min(target), row.max(target));
            for (dimensions, matrix) in &mut *matrices {
                let dimensions = *dimensions;
                let (head, tail) = matrix.split_at_mut(high * dimensions);
                head[low * dimensions..][..dimensions].swap_with_slice(&mut tail[..dimensions]);
            }
            ids.swap(row, target);
            labelled.swap(row, target);
            targets.swap(row, target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_by_the_order_of_the_prompts() -> Result<(), SupportError> {
        let mut builder = SupportSetBuilder::new(2);
        builder.push_image("dog", 7, &[0.0, 5.0])?;
        builder.push_prompt("cat", &[3.0, 0.0])?;
        builder.push_prompt("dog", &[0.0, 1.0])?;
        builder.push_unlabelled_image("cat", 9, &[4.0, 3.0])?;
        builder.push_prompt("cat", &[0.0, 7.0])?;
        let set = builder.finish()?;
        assert_eq!(set.categories(), ["cat", "dog"]);
        // Every prompt has the same weight, regardless of the length of its vector.
        let half = 0.5f32.sqrt();
        assert_eq!(set.zeroshot_weights(), ndarray::arr2(&[[half, half], [0.0, 1.0]]));
        assert_eq!(set.features(), ndarray::arr2(&[[0.8, 0.6], [0.0, 1.0]]));
        assert_eq!((set.rows(0), set.rows(1), set.ids()), (0..1, 1..2, &[9, 7][..]));
        assert_eq!(set.labelled(), [false, true]);
        Ok(())
    }

    #[test]
    fn negatives_are_no_categories() -> Result<(), SupportError> {
        let mut builder = SupportSetBuilder::new(2);
        builder.push_negative(&[0.0, -2.0])?;
        assert_eq!(builder.clone().finish().err(), Some(SupportError::NoCategory));
        builder.push_prompt("cat", &[3.0, 0.0])?;
        builder.push_negative(&[-4.0, 3.0])?;
        assert_eq!(builder.push_negative(&[0.0, 0.0]), Err(SupportError::Zero));
        let set = builder.finish()?;
        assert_eq!((set.categories(), set.len()), (&["cat".to_owned()][..], 0));
        assert_eq!(set.negatives(), ndarray::arr2(&[[0.0, -1.0], [-0.8, 0.6]]));
        Ok(())
    }

    #[test]
    fn what_makes_no_support_set() -> Result<(), SupportError> {
        let mut builder = SupportSetBuilder::new(2);
        assert_eq!(
            builder.push_prompt("cat", &[1.0]),
            Err(SupportError::Dimensions { expected: 2, found: 1 })
        );
        assert_eq!(builder.push_prompt("cat", &[0.0, 0.0]), Err(SupportError::Zero));
        assert_eq!(builder.push_prompt("cat", &[f32::NAN, 0.0]), Err(SupportError::NotFinite));
        assert_eq!(builder.clone().finish().err(), Some(SupportError::NoCategory));
        builder.push_image("cat", 1, &[1.0, 0.0])?;
        assert_eq!(builder.clone().finish().err(), Some(SupportError::NoPrompt("cat".into())));
        builder.push_prompt("cat", &[1.0, 0.0])?;
        builder.push_prompt("cat", &[-1.0, 0.0])?;
        assert_eq!(builder.finish().err(), Some(SupportError::Cancelled("cat".into())));
        Ok(())
    }
}
