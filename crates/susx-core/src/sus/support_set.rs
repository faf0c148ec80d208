//! Zeroshot weights and support features, keyed by category name.

use std::collections::HashMap;
use std::ops::Range;

use ndarray::{Array2, ArrayView2};

use crate::interrupt;

/// Rows beyond which a sample of them stands for all.
const SAMPLE_ROWS: usize = 4096;
/// Elements of a matrix of the sample's rows and all categories. Many categories have a smaller sample, for a
/// classifier that is itself small must not take gigabytes to fit.
const SAMPLE_ELEMENTS: usize = 1 << 24;

/// Why a vector or a set of rows makes no support set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SupportError {
    #[error("expected {expected} dimensions, not {found}")]
    Dimensions { expected: usize, found: usize },
    #[error("an embedding must not be all zeros")]
    Zero,
    #[error("an embedding must hold only finite numbers")]
    NotFinite,
    #[error("there is no prompt, so there is no category")]
    NoCategory,
    #[error("category \"{0}\" has support images but no prompt")]
    NoPrompt(String),
    #[error("the prompts of category \"{0}\" cancel each other out")]
    Cancelled(String),
    #[error("the number of {what} must be at most {most}, not {found}")]
    TooMany { what: &'static str, most: usize, found: usize },
}

/// The vector divided by its L2 norm.
pub fn unit(vector: &[f32]) -> Result<Vec<f32>, SupportError> {
    let norm = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    match norm {
        n if !n.is_finite() => Err(SupportError::NotFinite),
        0.0 => Err(SupportError::Zero),
        n => Ok(vector.iter().map(|&x| (f64::from(x) / n) as f32).collect()),
    }
}

/// Categories of a support set: every answer has a number for each.
pub const MOST_CATEGORIES: usize = 50_000;
/// Elements of all features, rows times dimensions: two gigabytes.
pub const MOST_NUMBERS: usize = 512 << 20;

/// All of so many rows, or 4,096 of them, evenly spaced: the same rows always give the same constants. Of more than
/// 4,096 categories fewer.
pub(crate) fn sample(total: usize, categories: usize) -> Vec<usize> {
    let most = (SAMPLE_ELEMENTS / categories.max(1)).clamp(2, SAMPLE_ROWS);
    let rows = total.min(most);
    (0..rows).map(|i| i * total / rows).collect()
}

/// Categories with one unit zeroshot weight each and any number of unit support features.
#[derive(Clone, Debug)]
pub struct SupportSet {
    categories: Vec<String>,
    /// C x d.
    zeroshot_weights: Array2<f32>,
    /// M x d, sorted by category.
    features: Array2<f32>,
    /// M, whatever the caller knows the features by.
    ids: Vec<i64>,
    /// M, whether somebody has said what the image shows.
    labelled: Vec<bool>,
    /// C + 1; category `c` has the rows `offsets[c]..offsets[c + 1]`.
    offsets: Vec<usize>,
}

impl SupportSet {
    /// The names, C, in the order in which their first prompts came.
    pub fn categories(&self) -> &[String] {
        &self.categories
    }

    /// d.
    pub fn dimensions(&self) -> usize {
        self.zeroshot_weights.ncols()
    }

    /// One unit row per category, C x d.
    pub fn zeroshot_weights(&self) -> ArrayView2<'_, f32> {
        self.zeroshot_weights.view()
    }

    /// Unit rows sorted by category, M x d.
    pub fn features(&self) -> ArrayView2<'_, f32> {
        self.features.view()
    }

    /// What the caller knows each feature by, M.
    pub fn ids(&self) -> &[i64] {
        &self.ids
    }

    /// Of each feature, whether somebody has said that it is of its category, M. Otherwise it was found, or
    /// made, by the category's name alone.
    pub fn labelled(&self) -> &[bool] {
        &self.labelled
    }

    /// Where each category's features begin, and at last M.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// The rows of one category's features.
    pub fn rows(&self, category: usize) -> Range<usize> {
        self.offsets[category]..self.offsets[category + 1]
    }

    /// The category of a feature.
    pub fn category_of(&self, row: usize) -> usize {
        self.offsets.partition_point(|&offset| offset <= row) - 1
    }

    /// The rows that constants of all rows are taken from: see [`sample`]. They are sorted by category, so all
    /// categories are met.
    pub(crate) fn sample(&self) -> Vec<usize> {
        sample(self.len(), self.categories.len())
    }

    /// M.
    pub fn len(&self) -> usize {
        self.features.nrows()
    }

    /// Whether no category has a support feature.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes on the heap.
    pub fn size(&self) -> usize {
        (self.features.len() + self.zeroshot_weights.len()) * size_of::<f32>()
            + self.offsets.len() * size_of::<usize>()
            + self.ids.len() * size_of::<i64>()
            + self.labelled.len() * size_of::<bool>()
            + self.categories.iter().map(String::len).sum::<usize>()
    }
}

/// Gathers the rows of a classifier in any order.
#[derive(Clone, Debug, Default)]
pub struct SupportSetBuilder {
    dimensions: usize,
    categories: Vec<Gathered>,
    index: HashMap<String, usize>,
    /// How many prompts came so far.
    prompts: usize,
    /// Unit features one after the other, M x d. They are sorted where they lie: a second copy would double
    /// the peak of a session's memory.
    features: Vec<f32>,
    ids: Vec<i64>,
    labelled: Vec<bool>,
    /// The place in `categories` of every feature, M.
    category_of: Vec<usize>,
    /// Elements of all features so far.
    numbers: usize,
}

#[derive(Clone, Debug)]
struct Gathered {
    name: String,
    /// Sum of the unit prompt embeddings, d; empty while there is none.
    prompt_sum: Vec<f64>,
    /// How many features it has.
    features: usize,
    /// Place of the first prompt among all prompts.
    first_prompt: usize,
}

impl SupportSetBuilder {
    pub fn new(dimensions: usize) -> Self {
        SupportSetBuilder { dimensions, ..Default::default() }
    }

    /// Adds the embedding of one prompt: a category's zeroshot weight is the normalised mean of its
    /// normalised prompt embeddings, CLIP's prompt ensembling.
    pub fn push_prompt(&mut self, category: &str, embedding: &[f32]) -> Result<(), SupportError> {
        let embedding = self.check(embedding)?;
        let place = self.prompts;
        self.prompts += 1;
        let gathered = self.category(category);
        let gathered = &mut self.categories[gathered];
        if gathered.prompt_sum.is_empty() {
            gathered.prompt_sum = vec![0.0; embedding.len()];
            gathered.first_prompt = place;
        }
        for (sum, x) in gathered.prompt_sum.iter_mut().zip(embedding) {
            *sum += f64::from(x);
        }
        Ok(())
    }

    /// Adds the embedding of one support image that somebody has labelled, which [`SupportSet::ids`] will
    /// know by this number.
    pub fn push_image(&mut self, category: &str, id: i64, embedding: &[f32]) -> Result<(), SupportError> {
        self.push(category, id, embedding, true)
    }

    /// As [`push_image`](Self::push_image), of an image that was retrieved or generated by the category's
    /// name and may show something else.
    pub fn push_unlabelled_image(
        &mut self,
        category: &str,
        id: i64,
        embedding: &[f32],
    ) -> Result<(), SupportError> {
        self.push(category, id, embedding, false)
    }

    fn push(
        &mut self,
        category: &str,
        id: i64,
        embedding: &[f32],
        is_labelled: bool,
    ) -> Result<(), SupportError> {
        let embedding = self.check(embedding)?;
        self.numbers += embedding.len();
        if self.numbers > MOST_NUMBERS {
            let what = "numbers in the support images (rows times dimensions)";
            return Err(SupportError::TooMany { what, most: MOST_NUMBERS, found: self.numbers });
        }
        let category = self.category(category);
        self.categories[category].features += 1;
        self.features.extend(embedding);
        self.ids.push(id);
        self.labelled.push(is_labelled);
        self.category_of.push(category);
        Ok(())
    }

    /// Sorts what was gathered. Every category needs a prompt; none needs an image.
    pub fn finish(self) -> Result<SupportSet, SupportError> {
        let SupportSetBuilder { dimensions, categories, mut features, mut ids, mut labelled, .. } = self;
        if let Some(orphan) = categories.iter().find(|c| c.prompt_sum.is_empty()) {
            return Err(SupportError::NoPrompt(orphan.name.clone()));
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
        // The next row of every category, by its place in `categories`.
        let mut next = vec![0; categories.len()];
        let mut rows = 0;
        for &place in &order {
            interrupt::check();
            let category = &categories[place];
            let norm = category.prompt_sum.iter().map(|x| x * x).sum::<f64>().sqrt();
            if norm < 1e-9 {
                return Err(SupportError::Cancelled(category.name.clone()));
            }
            weights.extend(category.prompt_sum.iter().map(|x| (x / norm) as f32));
            next[place] = rows;
            rows += category.features;
            offsets.push(rows);
        }
        let mut targets = self.category_of;
        for target in &mut targets {
            let next = &mut next[*target];
            *target = *next;
            *next += 1;
        }
        move_rows(&mut targets, dimensions, &mut features, &mut ids, &mut labelled);
        // Capacities grow in leaps.
        features.shrink_to_fit();
        ids.shrink_to_fit();
        labelled.shrink_to_fit();

        let matrix = |values: Vec<f32>| {
            Array2::from_shape_vec((values.len() / dimensions, dimensions), values)
                .map_err(|_| SupportError::Dimensions { expected: dimensions, found: 0 })
        };
        let mut names: Vec<String> = categories.into_iter().map(|c| c.name).collect();
        Ok(SupportSet {
            zeroshot_weights: matrix(weights)?,
            features: matrix(features)?,
            ids,
            labelled,
            offsets,
            categories: order.into_iter().map(|place| std::mem::take(&mut names[place])).collect(),
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

    /// The place of a category, which is a new one if there is none of that name.
    fn category(&mut self, name: &str) -> usize {
        if let Some(&place) = self.index.get(name) {
            return place;
        }
        let place = self.categories.len();
        self.index.insert(name.to_owned(), place);
        self.categories.push(Gathered {
            name: name.to_owned(),
            prompt_sum: Vec::new(),
            features: 0,
            first_prompt: usize::MAX,
        });
        place
    }
}

/// Brings every row to its target, cycle by cycle. The targets are a permutation, and used up.
fn move_rows(
    targets: &mut [usize],
    dimensions: usize,
    features: &mut [f32],
    ids: &mut [i64],
    labelled: &mut [bool],
) {
    for row in 0..targets.len() {
        while targets[row] != row {
            let target = targets[row];
            let (low, high) = (row.min(target), row.max(target));
            let (head, tail) = features.split_at_mut(high * dimensions);
            head[low * dimensions..][..dimensions].swap_with_slice(&mut tail[..dimensions]);
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
        // Each prompt counts alike, however long its vector.
        let half = 0.5f32.sqrt();
        assert_eq!(set.zeroshot_weights(), ndarray::arr2(&[[half, half], [0.0, 1.0]]));
        assert_eq!(set.features(), ndarray::arr2(&[[0.8, 0.6], [0.0, 1.0]]));
        assert_eq!((set.rows(0), set.rows(1), set.ids()), (0..1, 1..2, &[9, 7][..]));
        assert_eq!(set.labelled(), [false, true]);
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
