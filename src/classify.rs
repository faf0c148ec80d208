//! Labels.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::classifier::{Ranked, top_k};

use crate::fitted::{self, Fitted};
use crate::limits;
use crate::pg::error::Result;
use crate::pg::image::Image;
use crate::pg::regclass::RegClass;
use crate::pg::vector::Vector;
use crate::pg::version::SameVersion;

/// Rank, category, score and probability.
type Row = (i32, String, f32, f32);

/// The `k` best categories of an image's embedding; no row for NULL.
#[pg_extern(name = "classify", stable, parallel_safe, cost = 1000)]
#[allow(clippy::type_complexity)]
fn classify_vector(
    _version: SameVersion,
    classifier: Option<RegClass>,
    embedding: Option<Vector>,
    k: default!(Option<i32>, "1"),
    method: default!(Option<&str>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (name!(rank, i32), name!(category, String), name!(score, f32), name!(probability, f32)),
    >,
    ErrorReport,
> {
    let (Some(classifier), Some(embedding)) = (classifier, embedding) else {
        return Ok(TableIterator::new([]));
    };
    let fitted = fitted::get(classifier)?;
    Ok(TableIterator::new(ranking(&fitted, &embedding, k, method)?))
}

/// The `k` best categories of an image file; no row for NULL.
#[pg_extern(name = "classify", stable, parallel_safe, cost = 100000)]
#[allow(clippy::type_complexity)]
fn classify_image(
    _version: SameVersion,
    classifier: Option<RegClass>,
    image: Option<Image>,
    k: default!(Option<i32>, "1"),
    method: default!(Option<&str>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (name!(rank, i32), name!(category, String), name!(score, f32), name!(probability, f32)),
    >,
    ErrorReport,
> {
    let (Some(classifier), Some(image)) = (classifier, image) else { return Ok(TableIterator::new([])) };
    let fitted = fitted::get(classifier)?;
    let embedding = fitted.embed(image.file()?)?;
    Ok(TableIterator::new(ranking(&fitted, &embedding, k, method)?))
}

/// The best category of an image's embedding; NULL for NULL.
#[pg_extern(name = "label", stable, parallel_safe, cost = 1000)]
fn label_vector(
    _version: SameVersion,
    classifier: Option<RegClass>,
    embedding: Option<Vector>,
    method: default!(Option<&str>, "NULL"),
) -> Result<Option<String>, ErrorReport> {
    let (Some(classifier), Some(embedding)) = (classifier, embedding) else { return Ok(None) };
    let fitted = fitted::get(classifier)?;
    Ok(best(&fitted, &embedding, method)?)
}

/// The best category of an image file; NULL for NULL.
#[pg_extern(name = "label", stable, parallel_safe, cost = 100000)]
fn label_image(
    _version: SameVersion,
    classifier: Option<RegClass>,
    image: Option<Image>,
    method: default!(Option<&str>, "NULL"),
) -> Result<Option<String>, ErrorReport> {
    let (Some(classifier), Some(image)) = (classifier, image) else { return Ok(None) };
    let fitted = fitted::get(classifier)?;
    let embedding = fitted.embed(image.file()?)?;
    Ok(best(&fitted, &embedding, method)?)
}

fn ranking(fitted: &Fitted, embedding: &Vector, k: Option<i32>, method: Option<&str>) -> Result<Vec<Row>> {
    let k = limits::count(k.unwrap_or(1), "k", limits::BEST)?;
    let categories = fitted.classifier.categories();
    let rows = (1..)
        .zip(rank(fitted, embedding, k, method)?)
        .map(|(rank, r)| (rank, categories[r.category].clone(), r.score, r.probability));
    Ok(rows.collect())
}

fn best(fitted: &Fitted, embedding: &Vector, method: Option<&str>) -> Result<Option<String>> {
    let best = rank(fitted, embedding, 1, method)?;
    Ok(best.first().map(|r| fitted.classifier.categories()[r.category].clone()))
}

fn rank(fitted: &Fitted, embedding: &Vector, k: usize, method: Option<&str>) -> Result<Vec<Ranked>> {
    let method = fitted.method(method)?;
    let logits = fitted.classifier.logits(fitted.query(embedding)?.view(), method);
    Ok(top_k(&logits.row(0).to_vec(), k))
}
