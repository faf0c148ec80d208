//! From a table of images to a value for the parameter `reject`.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::classifier::Otsu;

use crate::batches::POOL_ROWS;
use crate::fitted::{self, Fitted};
use crate::image_vectors::ImageVectors;
use crate::pg::catalog::classifier::swapped;
use crate::pg::catalog::pool::read_vectors;
use crate::pg::catalog::provenance;
use crate::pg::error::Result;
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;
use crate::unit_vectors::MixedVectors;

/// Share of the variance that a threshold has to explain. Otsu's method divides any numbers; where the pool shows
/// nothing else than the categories, it would reject a quarter of it.
const CLEAR: f64 = 0.82;
/// What is suggested where the images do not fall into two groups.
const UNCLEAR: f32 = 0.5;

/// The threshold that divides the images of a pool into those that are of some category and those that are not, or 0.5
/// if they do not fall into two groups; NULL for NULL, and if the pool has no embedding. Changes nothing. Memory does
/// not grow with the pool.
#[pg_extern(stable, parallel_unsafe, cost = 1000000)]
fn suggest_reject(
    _version: SameVersion,
    classifier: Option<RegClass>,
    pool: Option<RegClass>,
    embedding_column: default!(Option<&str>, "'embedding'"),
    likeness_column: default!(Option<&str>, "NULL"),
) -> Result<Option<f32>, ErrorReport> {
    let (Some(classifier), Some(pool), Some(column)) = (classifier, pool, embedding_column) else {
        return Ok(None);
    };
    let fitted = fitted::get(classifier).map_err(|error| swapped(error, pool))?;
    let mut batch = Batch::new(&fitted);
    pool.open_for_reading()?;
    provenance::check_pool(pool, column, classifier, &fitted.settings)?;
    let likeness = match fitted.classifier.likeness_dimensions() {
        Some(_) => provenance::pool_likeness(pool, likeness_column, classifier, &fitted.settings)?,
        None => likeness_column.map(str::to_owned),
    };
    read_vectors(pool, column, likeness.as_deref(), |embedding, likeness| {
        batch.push(&ImageVectors { embedding, likeness })
    })?;
    batch.flush()?;
    Ok(batch.otsu.best().map(|(threshold, explained)| match explained {
        CLEAR.. => threshold,
        _ => UNCLEAR,
    }))
}

/// Embeddings collected until there are enough for a product of matrices.
struct Batch<'a> {
    fitted: &'a Fitted,
    vectors: MixedVectors,
    otsu: Otsu,
}

impl<'a> Batch<'a> {
    fn new(fitted: &'a Fitted) -> Self {
        let classifier = &fitted.classifier;
        let vectors = MixedVectors::new(classifier.dimensions(), classifier.likeness_dimensions());
        Batch { fitted, vectors, otsu: Otsu::default() }
    }

    /// Adds an image. Vectors without a direction are those of no image.
    fn push(&mut self, image: &ImageVectors) -> Result<()> {
        self.fitted.check(image).map_err(|error| error.within("an image of the pool"))?;
        if self.vectors.push(image).is_err() {
            return Ok(());
        }
        if self.vectors.len() >= POOL_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        for (_, vectors) in self.vectors.parts() {
            for known in self.fitted.classifier.known(vectors.queries()?) {
                self.otsu.record(known);
            }
        }
        self.vectors.clear();
        Ok(())
    }
}
