//! Labels.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::classifier::Answer;

use crate::classifiable::{Classifiable, given};
use crate::fitted;
use crate::limits;
use crate::pg::error::Result;
use crate::pg::image::Image;
use crate::pg::regclass::RegClass;
use crate::pg::vector::Vector;
use crate::pg::version::SameVersion;

/// Rank, category, score, probability and the probability that it shows any category.
type RankedRow = (i32, String, f32, f32, f32);

/// The function `susx.classify` for one type of argument: the `k` best categories, even for an image that gets no
/// label; no row for NULL.
macro_rules! classify {
    ($function:ident, $argument:ident: $type:ident $(, $likeness:ident)?; cost: $cost:tt) => {
        #[pg_extern(name = "classify", stable, parallel_safe, cost = $cost)]
        #[allow(clippy::type_complexity)]
        fn $function(
            _version: SameVersion,
            classifier: Option<RegClass>,
            $argument: Option<$type>,
            k: default!(Option<i32>, "1"),
            method: default!(Option<&str>, "NULL"),
            $($likeness: default!(Option<Vector>, "NULL"),)?
        ) -> Result<
            TableIterator<
                'static,
                (
                    name!(rank, i32),
                    name!(category, String),
                    name!(score, f32),
                    name!(probability, f32),
                    name!(known, f32),
                ),
            >,
            ErrorReport,
        > {
            let likeness = given!($($likeness)?);
            Ok(TableIterator::new(ranking(classifier, $argument, likeness, k, method)?))
        }
    };
}

classify!(classify_vector, embedding: Vector, likeness; cost: 1000);
classify!(classify_image, image: Image; cost: 100000);

/// The function `susx.label` for one type of argument: the best category; NULL for NULL, and for
/// an image that the classifier's parameter `reject` gives no label.
macro_rules! label {
    ($function:ident, $argument:ident: $type:ident $(, $likeness:ident)?; cost: $cost:tt) => {
        #[pg_extern(name = "label", stable, parallel_safe, cost = $cost)]
        fn $function(
            _version: SameVersion,
            classifier: Option<RegClass>,
            $argument: Option<$type>,
            $($likeness: Option<Vector>,)?
            method: default!(Option<&str>, "NULL"),
        ) -> Result<Option<String>, ErrorReport> {
            Ok(best(classifier, $argument, given!($($likeness)?), method)?)
        }
    };
}

label!(label_vector, embedding: Vector; cost: 1000);
label!(label_vectors, embedding: Vector, likeness; cost: 1000);
label!(label_image, image: Image; cost: 100000);

/// The function `susx.known` for one type of argument: the probability that it shows any category; NULL for NULL.
macro_rules! known {
    ($function:ident, $argument:ident: $type:ident $(, $likeness:ident)?; cost: $cost:tt) => {
        #[pg_extern(name = "known", stable, parallel_safe, cost = $cost)]
        fn $function(
            _version: SameVersion,
            classifier: Option<RegClass>,
            $argument: Option<$type>,
            $($likeness: default!(Option<Vector>, "NULL"),)?
        ) -> Result<Option<f32>, ErrorReport> {
            Ok(known(classifier, $argument, given!($($likeness)?))?)
        }
    };
}

known!(known_vector, embedding: Vector, likeness; cost: 1000);
known!(known_image, image: Image; cost: 100000);

fn ranking(
    classifier: Option<RegClass>,
    input: Option<impl Classifiable>,
    likeness: Option<Vector>,
    k: Option<i32>,
    method: Option<&str>,
) -> Result<Vec<RankedRow>> {
    let (Some(classifier), Some(input)) = (classifier, input) else { return Ok(Vec::new()) };
    let fitted = fitted::get(classifier)?;
    let image = input.vectors(likeness, &fitted)?;
    let k = limits::count(k.unwrap_or(1), "k", limits::BEST)?;
    let categories = fitted.classifier.categories();
    let Answer { ranked, known } = fitted.answer(&image, fitted.method(method)?, k)?;
    let rows = (1..)
        .zip(ranked)
        .map(|(rank, r)| (rank, categories[r.category].clone(), r.score, r.probability, known));
    Ok(rows.collect())
}

fn best(
    classifier: Option<RegClass>,
    input: Option<impl Classifiable>,
    likeness: Option<Vector>,
    method: Option<&str>,
) -> Result<Option<String>> {
    let (Some(classifier), Some(input)) = (classifier, input) else { return Ok(None) };
    let fitted = fitted::get(classifier)?;
    let image = input.vectors(likeness, &fitted)?;
    let method = fitted.method(method)?;
    let best = fitted.classifier.best(fitted.query(&image)?.view(), method).pop().flatten();
    Ok(best.map(|category| fitted.classifier.categories()[category].clone()))
}

fn known(
    classifier: Option<RegClass>,
    input: Option<impl Classifiable>,
    likeness: Option<Vector>,
) -> Result<Option<f32>> {
    let (Some(classifier), Some(input)) = (classifier, input) else { return Ok(None) };
    let fitted = fitted::get(classifier)?;
    let image = input.vectors(likeness, &fitted)?;
    Ok(Some(fitted.answer(&image, fitted.classifier.default_method(), 1)?.known))
}
