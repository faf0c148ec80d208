//! Labelled images, read from a caller's query: unit features with the indices of their categories, or of none of them.

use susx_core::queries::Queries;
use susx_core::sus::SupportSet;

use crate::batches::{LABELLED_BYTES, LABELLED_ROWS};
use crate::category_index::CategoryIndex;
use crate::image_stream::ImageStream;
use crate::image_vectors::ImageVectors;
use crate::pg::catalog::classifier::{ClassifierError, Settings};
use crate::pg::catalog::input::{InputKind, InputValue};
use crate::pg::catalog::labelled_query::{self, Inputs, LabelledRow};
use crate::pg::embedding_model::EmbeddingModel;
use crate::pg::error::{Error, Result};
use crate::pg::image::Image;
use crate::pg::message::warn;
use crate::unit_vectors::{MixedVectors, Place};

/// The classifier that the images are for.
#[derive(Clone, Debug)]
pub struct Space<'a> {
    /// The classifier's name, for messages.
    pub classifier: &'a str,
    /// The model that embeds images; without one, the query can only give embeddings.
    pub model: Option<EmbeddingModel>,
    /// The model of the likeness vectors that images need; `None` if the classifier has no use for them, or no model.
    pub likeness_model: Option<EmbeddingModel>,
    pub categories: &'a [String],
    pub dimensions: usize,
    /// Of likeness vectors; `None` if the classifier has no use for them.
    pub likeness_dimensions: Option<usize>,
    /// What happens to images without a likeness vector if the classifier uses them.
    pub without_likeness: WithoutLikeness,
}

/// What becomes of images that have no likeness vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutLikeness {
    /// They are compared by their embeddings.
    Used,
    Refused,
}

impl<'a> Space<'a> {
    pub fn new(classifier: &'a str, settings: &'a Settings, support_set: &'a SupportSet) -> Self {
        Space {
            classifier,
            model: settings.embedding_model(classifier).ok(),
            likeness_model: settings.likeness_model(classifier).filter(|_| support_set.has_likeness()),
            categories: support_set.categories(),
            dimensions: support_set.dimensions(),
            likeness_dimensions: support_set.has_likeness().then(|| support_set.likeness().ncols()),
            without_likeness: WithoutLikeness::Used,
        }
    }
}

impl Space<'_> {
    /// An error if the classifier cannot use such a query.
    fn check(&self, inputs: Inputs) -> Result<()> {
        let is_strict =
            self.likeness_dimensions.is_some() && self.without_likeness == WithoutLikeness::Refused;
        match inputs.kind {
            InputKind::Image if self.model.is_none() => {
                Err(ClassifierError::NoModel(self.classifier.to_owned()).into())
            }
            InputKind::Image if is_strict && self.likeness_model.is_none() => {
                Err(ClassifierError::NoLikenessModel(self.classifier.to_owned()).into())
            }
            InputKind::Embedding if is_strict && !inputs.has_likeness => {
                Err(ClassifierError::NoLikeness(self.classifier.to_owned()).into())
            }
            _ => Ok(()),
        }
    }
}

/// Rows that could not be used: an image that cannot be read, NULL, an embedding without a direction.
#[derive(Clone, Debug, Default)]
pub struct Unreadable {
    /// How many there are, by category.
    pub per_category: Vec<u64>,
    /// How many there are of none of the categories.
    pub of_none: u64,
    /// The first one and the reason: `row 17: ...`.
    pub first: Option<String>,
}

impl Unreadable {
    pub fn total(&self) -> u64 {
        self.per_category.iter().sum::<u64>() + self.of_none
    }
}

/// Passes the rows of a query to `each` in batches: images (n), the indices of their categories (n), and how many rows since
/// the last batch could not be used. Either all images of a batch have a likeness vector, or none. A row whose category is NULL is an image of none of the categories:
/// it has no index. Before the first batch, `begin` gets the number of rows that the planner expects. Memory is bounded,
/// however many rows there are. A WARNING tells how many rows could not be used.
///
/// Errors of the query itself are passed on. It is also an error if a row has a category that the classifier does not
/// have, or if an embedding has other dimensions than the classifier.
pub fn read(
    space: &Space,
    query: &str,
    begin: impl FnOnce(Option<u64>),
    each: impl FnMut(Queries, &[Option<usize>], u64) -> Result<()>,
) -> Result<Unreadable> {
    let mut batch = FeatureBatch::new(space, each);
    let open = |inputs: Inputs, expected| {
        space.check(inputs)?;
        begin(expected);
        Ok(())
    };
    labelled_query::read(query, open, |row| batch.push(row))?;
    batch.flush()?;
    let unreadable = batch.unreadable();
    if let Some(first) = &unreadable.first {
        let total = unreadable.total();
        let rows = if total == 1 { "1 row" } else { &format!("{total} rows") };
        warn(format!("susx: {rows} of the query could not be used; the first error: {first}"));
    }
    Ok(unreadable)
}

/// Rows collected until there are enough for a batch.
struct FeatureBatch<'a, F> {
    space: &'a Space<'a>,
    categories: CategoryIndex<'a>,
    each: F,
    vectors: MixedVectors,
    /// The categories' indices of the images with a likeness vector, and of those without.
    with_likeness: Vec<Option<usize>>,
    without: Vec<Option<usize>>,
    /// Images that are not embedded yet: row number, category, file.
    images: Vec<(u64, Option<usize>, Image)>,
    image_bytes: usize,
    /// The rows that could not be used.
    unreadable: Unreadable,
    /// How many of them have been reported to `each`.
    reported: u64,
    /// The first of them: row number and reason.
    first: Option<(u64, String)>,
}

impl<'a, F: FnMut(Queries, &[Option<usize>], u64) -> Result<()>> FeatureBatch<'a, F> {
    fn new(space: &'a Space<'a>, each: F) -> Self {
        FeatureBatch {
            space,
            categories: CategoryIndex::new(space.classifier, space.categories),
            each,
            vectors: MixedVectors::new(space.dimensions, space.likeness_dimensions),
            with_likeness: Vec::new(),
            without: Vec::new(),
            images: Vec::new(),
            image_bytes: 0,
            unreadable: Unreadable { per_category: vec![0; space.categories.len()], ..Unreadable::default() },
            reported: 0,
            first: None,
        }
    }

    fn push(&mut self, row: LabelledRow) -> Result<()> {
        let category = row.category.map(|name| self.categories.of(name)).transpose();
        let category = category.map_err(|error| Error::from(error).in_row(row.number))?;
        match row.input {
            None => self.refuse(row.number, category, "it is NULL".to_owned()),
            Some(InputValue::Embedding(embedding)) => {
                self.add(row.number, category, &ImageVectors { embedding, likeness: row.likeness })?;
            }
            Some(InputValue::Image(image)) => {
                self.image_bytes += image.size();
                self.images.push((row.number, category, image));
            }
        }
        if self.vectors.len() + self.images.len() >= LABELLED_ROWS || self.image_bytes >= LABELLED_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Adds an image.
    fn add(&mut self, row: u64, category: Option<usize>, image: &ImageVectors) -> Result<()> {
        let Space { classifier, dimensions, likeness_dimensions, without_likeness, .. } = *self.space;
        image
            .check(classifier, Some(dimensions), likeness_dimensions)
            .map_err(|error| Error::from(error).in_row(row))?;
        let lacks_likeness = likeness_dimensions.is_some() && image.likeness.is_none();
        if lacks_likeness && without_likeness == WithoutLikeness::Refused {
            self.refuse(row, category, "its likeness vector is NULL".to_owned());
            return Ok(());
        }
        match self.vectors.push(image) {
            Ok(Place::WithLikeness) => self.with_likeness.push(category),
            Ok(Place::Without) => self.without.push(category),
            Err(reason) => self.refuse(row, category, reason.to_string()),
        }
        Ok(())
    }

    /// Counts a row that cannot be used.
    fn refuse(&mut self, row: u64, category: Option<usize>, reason: String) {
        match category {
            Some(category) => self.unreadable.per_category[category] += 1,
            None => self.unreadable.of_none += 1,
        }
        // Rows are not rejected in their order: embeddings are checked before images are embedded.
        if self.first.as_ref().is_none_or(|(first, _)| row < *first) {
            self.first = Some((row, reason));
        }
    }

    /// Passes what has been collected to `each`.
    fn flush(&mut self) -> Result<()> {
        self.embed_images()?;
        for (place, vectors) in self.vectors.parts() {
            let categories = match place {
                Place::WithLikeness => &mut self.with_likeness,
                Place::Without => &mut self.without,
            };
            let refused = self.unreadable.total();
            if !categories.is_empty() || refused > self.reported {
                (self.each)(vectors.queries()?, categories, refused - self.reported)?;
                self.reported = refused;
                categories.clear();
            }
        }
        self.vectors.clear();
        Ok(())
    }

    fn embed_images(&mut self) -> Result<()> {
        if self.images.is_empty() {
            return Ok(());
        }
        let images = std::mem::take(&mut self.images);
        self.image_bytes = 0;
        let (rows, files): (Vec<_>, Vec<_>) =
            images.into_iter().map(|(row, category, file)| ((row, category), file)).unzip();
        let no_model = || ClassifierError::NoModel(self.space.classifier.to_owned());
        let model = self.space.model.as_ref().ok_or_else(no_model)?;
        let answers = ImageStream::of(model, self.space.likeness_model.as_ref()).run(files)?;
        for ((row, category), answer) in rows.into_iter().zip(answers) {
            match answer {
                Ok(image) => self.add(row, category, &image)?,
                Err(failure) if failure.kind.is_of_input() => self.refuse(row, category, failure.message),
                // A failure of the model or the process, and not of this image.
                Err(failure) => return Err(Error::from(failure).in_row(row)),
            }
        }
        Ok(())
    }

    fn unreadable(self) -> Unreadable {
        let first = self.first.map(|(row, reason)| format!("row {row}: {reason}"));
        Unreadable { first, ..self.unreadable }
    }
}
