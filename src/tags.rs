//! Several labels per image: each category is judged by itself.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::classifier::Tag;

use crate::classifiable::{Classifiable, given};
use crate::fitted::{self, Fitted};
use crate::limits;
use crate::pg::error::{Error, Result};
use crate::pg::image::Image;
use crate::pg::regclass::RegClass;
use crate::pg::vector::Vector;
use crate::pg::version::SameVersion;

/// The function `susx.tags` for one type of argument: the categories that an image shows, most likely first; an empty array
/// for an image that shows none, and NULL for NULL. `min_probability` is double precision because drivers send that type;
/// NULL stands for the classifier's parameter `tag_threshold`.
macro_rules! tags {
    ($function:ident, $argument:ident: $type:ident $(, $likeness:ident)?; cost: $cost:tt) => {
        #[pg_extern(name = "tags", stable, parallel_safe, cost = $cost)]
        fn $function(
            _version: SameVersion,
            classifier: Option<RegClass>,
            $argument: Option<$type>,
            min_probability: default!(Option<f64>, "NULL"),
            $($likeness: default!(Option<Vector>, "NULL"),)?
        ) -> Result<Option<Vec<String>>, ErrorReport> {
            let min = min_probability.map(limits::probability).transpose()?;
            let Some((fitted, found)) = tags(classifier, $argument, given!($($likeness)?), min)? else {
                return Ok(None);
            };
            Ok(Some(found.iter().map(|tag| name(&fitted, tag)).collect()))
        }
    };
}

tags!(tags_of_vector, embedding: Vector, likeness; cost: 1000);
tags!(tags_of_image, image: Image; cost: 100000);

/// The function `susx.tag_probabilities` for one type of argument: how likely an image is to show each category, most likely
/// first; no row for NULL.
macro_rules! tag_probabilities {
    ($function:ident, $argument:ident: $type:ident $(, $likeness:ident)?; cost: $cost:tt) => {
        #[pg_extern(name = "tag_probabilities", stable, parallel_safe, cost = $cost)]
        fn $function(
            _version: SameVersion,
            classifier: Option<RegClass>,
            $argument: Option<$type>,
            $($likeness: default!(Option<Vector>, "NULL"),)?
        ) -> Result<TableIterator<'static, (name!(category, String), name!(probability, f32))>, ErrorReport> {
            let found = tags(classifier, $argument, given!($($likeness)?), Some(0.0))?;
            let rows: Vec<(String, f32)> = match found {
                None => Vec::new(),
                Some((fitted, found)) => {
                    found.iter().map(|tag| (name(&fitted, tag), tag.probability)).collect()
                }
            };
            Ok(TableIterator::new(rows))
        }
    };
}

tag_probabilities!(tag_probabilities_of_vector, embedding: Vector, likeness; cost: 1000);
tag_probabilities!(tag_probabilities_of_image, image: Image; cost: 100000);

/// The tags of an image, and the classifier; `None` for NULL.
fn tags(
    classifier: Option<RegClass>,
    input: Option<impl Classifiable>,
    likeness: Option<Vector>,
    min_probability: Option<f32>,
) -> Result<Option<(std::rc::Rc<Fitted>, Vec<Tag>)>> {
    let (Some(classifier), Some(input)) = (classifier, input) else { return Ok(None) };
    let fitted = fitted::get(classifier)?;
    let image = input.vectors(likeness, &fitted)?;
    let min = min_probability.unwrap_or_else(|| fitted.classifier.tag_threshold());
    let mut found = fitted.classifier.tags(fitted.query(&image)?.view(), min);
    let found = found.pop().ok_or_else(|| Error::internal("a query has no tags"))?;
    Ok(Some((fitted, found)))
}

fn name(fitted: &Fitted, tag: &Tag) -> String {
    fitted.classifier.categories()[tag.category].clone()
}
