//! Labelled queries, as unit features with the indices of their categories.

use std::collections::HashMap;

use ndarray::ArrayView2;
use susx_core::sus::{SupportSet, unit};

use crate::blame::is_of_the_input;
use crate::inference::client::OwnModel;
use crate::pg::catalog::classifier::{Settings, known};
use crate::pg::catalog::labelled::{self, Input, Kind, Labelled};
use crate::pg::error::{Error, Result};
use crate::pg::image::Image;
use crate::pg::message::warn;

/// Rows that are looked at together.
const BATCH: usize = 256;
/// Bytes of images that are embedded together, unless a single one is larger.
const BATCH_BYTES: usize = 32 << 20;

/// What a labelled query is read for.
#[derive(Clone, Debug)]
pub struct Space<'a> {
    /// The classifier's name, for messages.
    pub classifier: &'a str,
    /// What embeds images; without one only embeddings can be read.
    pub model: Option<OwnModel>,
    pub categories: &'a [String],
    pub dimensions: usize,
}

impl<'a> Space<'a> {
    pub fn new(classifier: &'a str, settings: &'a Settings, support_set: &'a SupportSet) -> Self {
        Space {
            classifier,
            model: settings.own_model(classifier).ok(),
            categories: support_set.categories(),
            dimensions: support_set.dimensions(),
        }
    }
}

/// Rows that could not be used: an image that cannot be read, NULL, an embedding without a direction.
#[derive(Clone, Debug, Default)]
pub struct Unreadable {
    /// How many, by category.
    pub per_category: Vec<u64>,
    /// Which was the first, and why: `row 17: ...`.
    pub first: Option<String>,
}

impl Unreadable {
    pub fn total(&self) -> u64 {
        self.per_category.iter().sum()
    }
}

/// Shows the rows of a query in batches: unit features (n x d), their categories' indices (n), and how many
/// rows since the last batch could not be used. Before the first, `begin` gets the number of rows that the
/// planner expects. Memory is bounded, however many rows there are. A WARNING says how many could not be
/// used.
///
/// Errors for what PostgreSQL says to the query, for rows without a category or with one that the
/// classifier does not have, and for embeddings of other dimensions.
pub fn read(
    space: &Space,
    query: &str,
    begin: impl FnOnce(Option<u64>),
    each: impl FnMut(ArrayView2<f32>, &[usize], u64) -> Result<()>,
) -> Result<Unreadable> {
    let mut batch = Batch::new(space, each);
    let open = |kind, expected| match (kind, &space.model) {
        (Kind::Image, None) => Err(Error::NoModel(space.classifier.to_owned())),
        _ => {
            begin(expected);
            Ok(())
        }
    };
    labelled::read(query, open, |row| batch.push(row))?;
    batch.flush()?;
    let unreadable = batch.unreadable();
    if let Some(first) = &unreadable.first {
        let total = unreadable.total();
        let rows = if total == 1 { "1 row" } else { &format!("{total} rows") };
        warn(format!("susx: {rows} of the query could not be used, the first for this: {first}"));
    }
    Ok(unreadable)
}

/// Rows until there are enough to look at together.
struct Batch<'a, F> {
    space: &'a Space<'a>,
    place: HashMap<&'a str, usize>,
    each: F,
    /// Unit rows, and what they are of.
    features: Vec<f32>,
    category: Vec<usize>,
    /// Images that are not embedded yet: row, category, file.
    images: Vec<(u64, usize, Image)>,
    image_bytes: usize,
    unreadable: Vec<u64>,
    /// How many of them `each` has been told of.
    told: u64,
    /// Row and reason.
    first: Option<(u64, String)>,
}

impl<'a, F: FnMut(ArrayView2<f32>, &[usize], u64) -> Result<()>> Batch<'a, F> {
    fn new(space: &'a Space<'a>, each: F) -> Self {
        Batch {
            space,
            place: (0..).zip(space.categories).map(|(i, name)| (name.as_str(), i)).collect(),
            each,
            features: Vec::new(),
            category: Vec::new(),
            images: Vec::new(),
            image_bytes: 0,
            unreadable: vec![0; space.categories.len()],
            told: 0,
            first: None,
        }
    }

    fn push(&mut self, row: Labelled) -> Result<()> {
        let Some(&category) = self.place.get(row.category.as_str()) else {
            let source = Error::NoCategory {
                classifier: self.space.classifier.to_owned(),
                category: row.category,
                known: known(self.space.categories),
            };
            return Err(Error::Row { row: row.number, source: Box::new(source) });
        };
        match row.input {
            None => self.refuse(row.number, category, "it is NULL".to_owned()),
            Some(Input::Embedding(embedding)) => self.add(row.number, category, &embedding.0)?,
            Some(Input::Image(image)) => {
                self.image_bytes += image.size();
                self.images.push((row.number, category, image));
            }
        }
        if self.category.len() + self.images.len() >= BATCH || self.image_bytes >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Adds an embedding.
    fn add(&mut self, row: u64, category: usize, embedding: &[f32]) -> Result<()> {
        let (expected, found) = (self.space.dimensions, embedding.len());
        if expected != found {
            let source = Error::Dimensions { classifier: self.space.classifier.to_owned(), expected, found };
            return Err(Error::Row { row, source: Box::new(source) });
        }
        match unit(embedding) {
            Ok(feature) => {
                self.features.extend(feature);
                self.category.push(category);
            }
            Err(reason) => self.refuse(row, category, reason.to_string()),
        }
        Ok(())
    }

    /// Counts a row that cannot be used.
    fn refuse(&mut self, row: u64, category: usize, reason: String) {
        self.unreadable[category] += 1;
        // An image is refused after the rows that came while it waited.
        if self.first.as_ref().is_none_or(|(first, _)| row < *first) {
            self.first = Some((row, reason));
        }
    }

    fn flush(&mut self) -> Result<()> {
        if !self.images.is_empty() {
            let images = std::mem::take(&mut self.images);
            self.image_bytes = 0;
            let (rows, files): (Vec<_>, Vec<_>) =
                images.into_iter().map(|(row, category, file)| ((row, category), file)).unzip();
            let no_model = || Error::NoModel(self.space.classifier.to_owned());
            let answers = self.space.model.as_ref().ok_or_else(no_model)?.embed_files(files)?;
            for ((row, category), answer) in rows.into_iter().zip(answers) {
                match answer {
                    Ok(embedding) => self.add(row, category, &embedding)?,
                    Err(failure) if is_of_the_input(&failure) => {
                        self.refuse(row, category, failure.message);
                    }
                    // Not the image's fault.
                    Err(failure) => {
                        return Err(Error::Row { row, source: Box::new(Error::Server(failure)) });
                    }
                }
            }
        }
        let refused: u64 = self.unreadable.iter().sum();
        if !self.category.is_empty() || refused > self.told {
            let features =
                ArrayView2::from_shape((self.category.len(), self.space.dimensions), &self.features)
                    .map_err(Error::internal)?;
            (self.each)(features, &self.category, refused - self.told)?;
            self.told = refused;
            self.features.clear();
            self.category.clear();
        }
        Ok(())
    }

    fn unreadable(self) -> Unreadable {
        let first = self.first.map(|(row, reason)| format!("row {row}: {reason}"));
        Unreadable { per_category: self.unreadable, first }
    }
}
