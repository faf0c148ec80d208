//! Labelled images: support images that somebody has chosen.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::arrays;
use crate::classifier::check_vectors;
use crate::embedder::Embedder;
use crate::inference::client::batch_length;
use crate::limits;
use crate::pg::catalog::classifier::{self as catalog, NewRows};
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::vector::Vector;
use crate::pg::version::SameVersion;

/// Images that are embedded and inserted together.
const BATCH: usize = 256;
/// Bytes of them, unless a single image is larger.
const BATCH_BYTES: usize = 16 << 20;

/// Adds labelled images by their embeddings; returns how many.
#[pg_extern(name = "add_support", volatile, parallel_unsafe)]
fn add_support_vectors(
    _version: SameVersion,
    classifier: Option<RegClass>,
    category: Option<&str>,
    embeddings: Option<Array<'_, Vector>>,
) -> Result<i64, ErrorReport> {
    let classifier = Error::required(classifier, "classifier")?;
    let category = Error::required(category, "category")?;
    let embedding = arrays::required(embeddings.as_ref(), "embeddings")?;
    classifier.open_for_inserting()?;
    catalog::settings(classifier)?;
    check_category(classifier, category)?;
    let dimensions = catalog::dimensions(classifier)?.unwrap_or(embedding[0].0.len());
    check_vectors(&embedding, dimensions)?;
    let (mut embedding, mut added) = (embedding.into_iter(), 0);
    while embedding.len() > 0 {
        // A long name a hundred thousand times is much.
        let embedding: Vec<Vector> = embedding.by_ref().take(BATCH).collect();
        let rows = NewRows {
            kind: "image",
            origin: "labelled",
            category: vec![category.to_owned(); embedding.len()],
            prompt: vec![None; embedding.len()],
            embedding,
        };
        added += catalog::insert_rows(classifier, rows)?;
    }
    Ok(i64::try_from(added).unwrap_or(i64::MAX))
}

/// Adds labelled image files, which stay in the classifier's table; returns how many.
#[pg_extern(name = "add_support", volatile, parallel_unsafe)]
fn add_support_images(
    _version: SameVersion,
    classifier: Option<RegClass>,
    category: Option<&str>,
    images: Option<Array<'_, &[u8]>>,
) -> Result<i64, ErrorReport> {
    let classifier = Error::required(classifier, "classifier")?;
    let category = Error::required(category, "category")?;
    let images = arrays::required(images.as_ref(), "images")?;
    classifier.open_for_inserting()?;
    let embedder = Embedder::of(classifier)?;
    check_category(classifier, category)?;
    let mut added = 0;
    while added < images.len() {
        let rest = &images[added..];
        let batch = &rest[..batch_length(rest, BATCH, BATCH_BYTES, |image| image.len())];
        let embeddings =
            embedder.images(batch, |place, failure| Error::Element { ord: added + place + 1, failure })?;
        catalog::insert_images(classifier, category, batch, embeddings)?;
        added += batch.len();
    }
    Ok(i64::try_from(added).unwrap_or(i64::MAX))
}

fn check_category(classifier: RegClass, category: &str) -> Result<()> {
    limits::check_bytes("category", limits::TEXT_BYTES, category.len())?;
    match catalog::has_category(classifier, category)? {
        true => Ok(()),
        false => Err(catalog::no_category(classifier, category)?),
    }
}
