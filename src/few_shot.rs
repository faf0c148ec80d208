//! Labelled images as support (few-shot learning).

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::arrays;
use crate::batches::{SUPPORT_BYTES, SUPPORT_ROWS};
use crate::classifier::check_vectors;
use crate::embedder::Embedder;
use crate::image_vectors::ImageVectors;
use crate::inference::client::batch_length;
use crate::limits;
use crate::pg::catalog::classifier::{self as catalog, LabelledImage, NewRows};
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::vector::Vector;
use crate::pg::version::SameVersion;

/// Adds labelled images by their embeddings, and by their likeness vectors where these are given. Returns how many.
#[pg_extern(name = "add_support", volatile, parallel_unsafe)]
fn add_support_vectors(
    _version: SameVersion,
    classifier: Option<RegClass>,
    category: Option<&str>,
    embeddings: Option<Array<'_, Vector>>,
    likenesses: default!(Option<Array<'_, Vector>>, "NULL"),
) -> Result<i64, ErrorReport> {
    let classifier = Error::required(classifier, "classifier")?;
    let category = Error::required(category, "category")?;
    let embedding = arrays::required(embeddings.as_ref(), "embeddings")?;
    let likeness = likenesses.map(|array| arrays::required(Some(&array), "likenesses")).transpose()?;
    if let Some(likeness) = likeness.as_ref().filter(|likeness| likeness.len() != embedding.len()) {
        let message = format!("there are {} embeddings but {} likenesses", embedding.len(), likeness.len());
        return Err(Error::argument(message)
            .with_hint("Pass one embedding and one likeness vector per image, in the same order.")
            .into());
    }
    classifier.open_for_inserting()?;
    catalog::settings(classifier)?;
    check_category(classifier, category)?;
    let dimensions = catalog::dimensions(classifier)?.unwrap_or(embedding[0].0.len());
    check_vectors(&embedding, dimensions)?;
    if let Some(likeness) = &likeness {
        catalog::allow_likeness(classifier)?;
        let dimensions = catalog::likeness_dimensions(classifier)?.unwrap_or(likeness[0].0.len());
        check_vectors(likeness, dimensions).map_err(|error| error.within("likenesses"))?;
    }
    let (mut embedding, mut added) = (embedding.into_iter(), 0);
    let mut likeness = likeness.map(Vec::into_iter);
    while embedding.len() > 0 {
        // In batches, because the category's name, which may be long, is copied for every row.
        let embedding: Vec<Vector> = embedding.by_ref().take(SUPPORT_ROWS).collect();
        let likeness = likeness.as_mut().map(|likeness| likeness.by_ref().take(SUPPORT_ROWS).collect());
        let rows = NewRows {
            kind: "image",
            origin: "labelled",
            category: vec![category.to_owned(); embedding.len()],
            prompt: vec![None; embedding.len()],
            embedding,
            likeness,
        };
        added += catalog::insert_rows(classifier, rows)?;
    }
    Ok(i64::try_from(added).unwrap_or(i64::MAX))
}

/// Adds labelled image files, which are kept in the classifier's table. Returns how many.
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
    let embedder = Embedder::of_new_images(classifier)?;
    check_category(classifier, category)?;
    let mut added = 0;
    while added < images.len() {
        let rest = &images[added..];
        let batch = &rest[..batch_length(rest, SUPPORT_ROWS, SUPPORT_BYTES, |image| image.len())];
        let vectors = embedder.images(batch, |index, failure| {
            Error::from(failure).within(format_args!("element {}", added + index + 1))
        })?;
        let images = batch.iter().zip(vectors).map(|(&file, vectors)| {
            let ImageVectors { embedding, likeness } = vectors;
            LabelledImage { file, embedding, likeness }
        });
        catalog::insert_images(classifier, category, images.collect())?;
        added += batch.len();
    }
    Ok(i64::try_from(added).unwrap_or(i64::MAX))
}

/// An error if the classifier has no such category, which lists those that it has.
pub fn check_category(classifier: RegClass, category: &str) -> Result<()> {
    limits::check_bytes("category", limits::TEXT_BYTES, category.len())?;
    match catalog::has_category(classifier, category)? {
        true => Ok(()),
        false => Err(catalog::no_category(classifier, category)?),
    }
}
