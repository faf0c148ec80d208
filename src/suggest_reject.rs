//! From a table of images to a value for the parameter `reject`.

use ndarray::ArrayView2;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::classifier::Otsu;
use susx_core::sus::{SupportError, unit};

use crate::batches::POOL_ROWS;
use crate::fitted::{self, Fitted};
use crate::pg::catalog::pool::read_embeddings;
use crate::pg::catalog::provenance;
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::vector::Vector;
use crate::pg::version::SameVersion;

/// Share of the variance that a threshold has to explain. Otsu's method divides any numbers; where the pool shows
/// nothing else than the categories, it would reject a quarter of it.
const CLEAR: f64 = 0.82;
/// What is suggested where the images do not fall into two groups.
const UNCLEAR: f32 = 0.5;

/// The threshold that divides the images of a pool into those that are of some category and those that are not, or 0.5
/// where they do not fall into two groups; NULL for NULL, and if the pool has no embedding. Changes nothing. Memory does not
/// grow with the pool.
#[pg_extern(stable, parallel_unsafe, cost = 1000000)]
fn suggest_reject(
    _version: SameVersion,
    classifier: Option<RegClass>,
    pool: Option<RegClass>,
    embedding_column: default!(Option<&str>, "'embedding'"),
) -> Result<Option<f32>, ErrorReport> {
    let (Some(classifier), Some(pool), Some(column)) = (classifier, pool, embedding_column) else {
        return Ok(None);
    };
    let fitted = fitted::get(classifier)?;
    let mut batch = Batch { fitted: &fitted, features: Vec::new(), otsu: Otsu::default() };
    pool.open_for_reading()?;
    provenance::check_pool(pool, column, classifier, &fitted.settings)?;
    read_embeddings(pool, column, |embedding| batch.push(&embedding))?;
    batch.flush()?;
    Ok(batch.otsu.best().map(|(threshold, explained)| match explained {
        CLEAR.. => threshold,
        _ => UNCLEAR,
    }))
}

/// Embeddings collected until there are enough for a product of matrices.
struct Batch<'a> {
    fitted: &'a Fitted,
    /// Unit features, row by row.
    features: Vec<f32>,
    otsu: Otsu,
}

impl Batch<'_> {
    /// Adds an image. An embedding without a direction is that of no image.
    fn push(&mut self, embedding: &Vector) -> Result<()> {
        let (expected, found) = (self.fitted.classifier.dimensions(), embedding.0.len());
        if expected != found {
            let source = SupportError::Dimensions { expected, found };
            return Err(Error::from(source).within("an image of the pool"));
        }
        let Ok(feature) = unit(&embedding.0) else { return Ok(()) };
        self.features.extend(feature);
        if self.features.len() >= POOL_ROWS * expected { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let dimensions = self.fitted.classifier.dimensions();
        let shape = (self.features.len() / dimensions.max(1), dimensions);
        let features = ArrayView2::from_shape(shape, &self.features).map_err(Error::internal)?;
        for known in self.fitted.classifier.known(features) {
            self.otsu.record(known);
        }
        self.features.clear();
        Ok(())
    }
}
