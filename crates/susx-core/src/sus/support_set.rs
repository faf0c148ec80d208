//! A support set: zeroshot weights and support features by category.

use std::ops::Range;

use ndarray::{Array2, ArrayView2};

use super::distinct::ImageVector;
use super::numbers::{Matrix, Numbers};
use crate::linalg::row_product;
use crate::queries::Queries;

/// Most rows that constants are estimated from; beyond it, a sample is used.
const SAMPLE_ROWS: usize = 4096;
/// Most elements of a matrix of sampled rows by categories. Bounds the memory of a fit with many categories by using a
/// smaller sample.
const SAMPLE_ELEMENTS: usize = 1 << 24;

/// Why vectors do not form a support set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SupportError {
    /// A vector has another length.
    #[error("expected {expected} dimensions, not {found}")]
    Dimensions {
        /// The length of the others.
        expected: usize,
        /// Its length.
        found: usize,
    },
    /// A likeness vector has another length.
    #[error("expected a likeness vector of {expected} dimensions, not {found}")]
    LikenessDimensions {
        /// The length of the others.
        expected: usize,
        /// Its length.
        found: usize,
    },
    /// A vector has no direction.
    #[error("an embedding must not be all zeros")]
    Zero,
    /// A vector contains NaN or infinity, or its norm overflows.
    #[error("an embedding must contain only finite numbers")]
    NotFinite,
    /// There are no prompts.
    #[error("there is no prompt, so there is no category")]
    NoCategory,
    /// A category has no prompt.
    #[error("category \"{0}\" has support images but no prompt")]
    NoPrompt(String),
    /// The mean of a category's prompts is zero.
    #[error("the prompts of category \"{0}\" cancel each other out")]
    Cancelled(String),
    /// A limit is exceeded.
    #[error("the number of {what} must be at most {most}, not {found}")]
    TooMany {
        /// What is limited.
        what: &'static str,
        /// The limit.
        most: usize,
        /// The number found.
        found: usize,
    },
}

/// The vector divided by its L2 norm; an error if it has no direction or is not finite.
pub fn unit(vector: &[f32]) -> Result<Vec<f32>, SupportError> {
    let norm = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    match norm {
        n if !n.is_finite() => Err(SupportError::NotFinite),
        0.0 => Err(SupportError::Zero),
        n => Ok(vector.iter().map(|&x| (f64::from(x) / n) as f32).collect()),
    }
}

/// Most categories of a support set. Every answer has one number per category.
pub const MOST_CATEGORIES: usize = 50_000;
/// Most negatives of a support set, for the same reason.
pub const MOST_NEGATIVES: usize = 50_000;
/// Most elements of all features, rows times dimensions: 2 GB.
pub const MOST_NUMBERS: usize = 512 << 20;

/// All of `total` rows or, of more than 4,096, evenly spaced ones: the same rows always give the same constants. With
/// more than 4,096 categories, the sample is smaller.
pub(crate) fn sample(total: usize, categories: usize) -> Vec<usize> {
    let most = (SAMPLE_ELEMENTS / categories.max(1)).clamp(2, SAMPLE_ROWS);
    evenly_spaced(total, most).collect()
}

/// All of `total` numbers from 0 or, of more than `most`, evenly spaced ones.
pub(crate) fn evenly_spaced(total: usize, most: usize) -> impl Iterator<Item = usize> {
    let count = total.min(most);
    (0..count).map(move |i| i * total / count)
}

/// Categories, each with one unit zeroshot weight and any number of unit support features.
///
/// In shapes, C is the number of categories, M the number of support features, Q the number of negatives and d their
/// dimensions.
#[derive(Clone, Debug)]
pub struct SupportSet {
    pub(super) categories: Vec<String>,
    /// C × d.
    pub(super) zeroshot_weights: Matrix,
    /// M × d, sorted by category.
    pub(super) features: Matrix,
    /// M × e, in the order of the features.
    pub(super) likeness: Option<Matrix>,
    /// The caller's number of each feature, M.
    pub(super) ids: Numbers<i64>,
    /// Whether each feature is of a labelled image, M.
    pub(super) labelled: Vec<bool>,
    /// Category `c` has the rows `offsets[c]..offsets[c + 1]`; C + 1.
    pub(super) offsets: Vec<usize>,
    /// Q × d.
    pub(super) negatives: Matrix,
}

impl SupportSet {
    /// The names of the categories in the order of their first prompts, C.
    pub fn categories(&self) -> &[String] {
        &self.categories
    }

    /// The number of dimensions, d.
    pub fn dimensions(&self) -> usize {
        self.zeroshot_weights.dim().1
    }

    /// One unit row per category, C × d.
    pub fn zeroshot_weights(&self) -> ArrayView2<'_, f32> {
        self.zeroshot_weights.view()
    }

    /// The cosines of unit images (n × d) to the zeroshot weights, n × C. Those of an image do not depend on the others.
    pub(crate) fn cosines(&self, features: ArrayView2<f32>) -> Array2<f32> {
        row_product(features, self.zeroshot_weights())
    }

    /// Unit rows of the names of other things, which are none of the categories, Q × d.
    pub fn negatives(&self) -> ArrayView2<'_, f32> {
        self.negatives.view()
    }

    /// Unit rows sorted by category, M × d. They are compared with names.
    pub fn features(&self) -> ArrayView2<'_, f32> {
        self.features.view()
    }

    /// Unit rows in the same order that are compared with those of other images, M × e: the features unless the images
    /// have likeness vectors.
    pub fn likeness(&self) -> ArrayView2<'_, f32> {
        self.likeness.as_ref().unwrap_or(&self.features).view()
    }

    /// Whether the support images have likeness vectors.
    pub fn has_likeness(&self) -> bool {
        self.likeness.is_some()
    }

    /// The same support set, whose images are compared by their features. Shares the features.
    pub fn without_likeness(&self) -> Self {
        SupportSet { likeness: None, ..self.clone() }
    }

    /// The support images as queries.
    pub fn queries(&self) -> Queries<'_> {
        let queries = Queries::new(self.features());
        if self.has_likeness() { queries.with_likeness(self.likeness()) } else { queries }
    }

    /// The caller's number of each feature, M.
    pub fn ids(&self) -> &[i64] {
        &self.ids
    }

    /// Whether each feature is of a labelled image, M. The others were retrieved or generated from the category's name
    /// and may show something else.
    pub fn labelled(&self) -> &[bool] {
        &self.labelled
    }

    /// Copies of the rows of labelled images of a matrix with a row per feature.
    pub(super) fn labelled_rows(&self, matrix: ArrayView2<f32>) -> Vec<ImageVector> {
        let rows = matrix.rows().into_iter().zip(&self.labelled);
        rows.filter(|(_, labelled)| **labelled).map(|(row, _)| row.iter().copied().collect()).collect()
    }

    /// The first row of each category, and M at the end; C + 1.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// The rows of a category.
    pub fn rows(&self, category: usize) -> Range<usize> {
        self.offsets[category]..self.offsets[category + 1]
    }

    /// The category of a row.
    pub fn category_of(&self, row: usize) -> usize {
        self.offsets.partition_point(|&offset| offset <= row) - 1
    }

    /// The number of rows that the category of a support row has on average; 0 without support.
    pub(crate) fn usual_rows(&self) -> f64 {
        let squares = (0..self.categories.len()).map(|c| (self.rows(c).len() as f64).powi(2));
        squares.sum::<f64>() / self.len().max(1) as f64
    }

    /// Evenly spaced rows, `most` at most, of those whose category has another row.
    pub(crate) fn rows_with_others(&self, most: usize) -> Vec<usize> {
        let has_others = |row: &usize| self.rows(self.category_of(*row)).len() > 1;
        let rows: Vec<usize> = (0..self.len()).filter(has_others).collect();
        evenly_spaced(rows.len(), most).map(|i| rows[i]).collect()
    }

    /// The rows that constants are estimated from: see [`sample`]. Rows are sorted by category, so an evenly spaced
    /// sample covers the categories.
    pub(crate) fn sample(&self) -> Vec<usize> {
        sample(self.len(), self.categories.len())
    }

    /// The zeroshot weights, the negatives, the features and, if there are any, the likeness vectors.
    pub(super) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        [&self.zeroshot_weights, &self.negatives, &self.features].into_iter().chain(&self.likeness)
    }

    /// The number of support features, M.
    pub fn len(&self) -> usize {
        self.features.dim().0
    }

    /// Whether there are no support features.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size in the memory of this process, in bytes.
    pub fn size(&self) -> usize {
        self.matrices().map(Matrix::size).sum::<usize>()
            + self.offsets.len() * size_of::<usize>()
            + self.ids.size()
            + self.labelled.len() * size_of::<bool>()
            + self.categories.iter().map(String::len).sum::<usize>()
    }
}
