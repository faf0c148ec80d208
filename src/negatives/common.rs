//! Common nouns as negatives, where the caller names none.

use std::collections::HashSet;

use ndarray::Array2;
use susx_core::classifier::least_alike;
use susx_core::sus::unit;

use super::{KIND, embed, new_names};
use crate::batches::PROMPT_ROWS;
use crate::embedder::Embedder;
use crate::pg::catalog::classifier::{self as catalog, NewRows};
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::vector::Vector;
use crate::support_set;

/// Nouns for things that one can take a photo of, one per line; tools/nouns.py makes the list from WordNet.
const NOUNS: &str = include_str!("nouns.txt");
/// How many of them are taken at most. More change little, and every answer computes a score for each.
const MOST: usize = 300;
/// A noun whose prompt is more like a category's than this is another name of the category.
const ALIKE: f32 = 0.95;

/// Adds the nouns that are least like the classifier's categories. Returns how many: the same nouns are chosen again by
/// a second call, which skips them.
pub(super) fn add(classifier: RegClass, embedder: &Embedder, template: &str) -> Result<usize> {
    let support_set = support_set::changed(classifier)?;
    let categories: HashSet<String> =
        support_set.categories().iter().map(|name| name.to_lowercase()).collect();
    let nouns: Vec<&str> = NOUNS.lines().filter(|&noun| !categories.contains(noun)).collect();
    let (mut prompts, mut embeddings) = (Vec::with_capacity(nouns.len()), Vec::with_capacity(nouns.len()));
    for batch in nouns.chunks(PROMPT_ROWS) {
        let (prompt, embedding) = embed(embedder, template, batch.iter().copied())?;
        prompts.extend(prompt);
        embeddings.extend(embedding);
    }
    let candidates = units(&nouns, &embeddings, support_set.dimensions())?;
    let chosen = least_alike(support_set.zeroshot_weights(), candidates.view(), ALIKE, MOST);
    let names: Vec<&str> = chosen.iter().map(|&place| nouns[place]).collect();
    let new: Vec<usize> = new_names(classifier, &names)?.into_iter().map(|place| chosen[place]).collect();
    let rows = NewRows {
        kind: KIND,
        origin: "common",
        category: new.iter().map(|&place| nouns[place].to_owned()).collect(),
        prompt: new.iter().map(|&place| prompts[place].clone()).collect(),
        embedding: new.iter().map(|&place| Vector(embeddings[place].0.clone())).collect(),
        likeness: None,
    };
    catalog::insert_rows(classifier, rows)
}

/// The embeddings as unit rows.
fn units(nouns: &[&str], embeddings: &[Vector], dimensions: usize) -> Result<Array2<f32>> {
    let mut elements = Vec::with_capacity(nouns.len() * dimensions);
    for (noun, embedding) in nouns.iter().zip(embeddings) {
        let within = |error| Error::from(error).within(format_args!("name \"{noun}\""));
        elements.extend(unit(&embedding.0).map_err(within)?);
    }
    Array2::from_shape_vec((nouns.len(), dimensions), elements).map_err(Error::internal)
}
