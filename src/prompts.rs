//! Sentences that describe the categories (CuPL), in addition to the prompts made from templates.

use std::collections::HashSet;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::sus::parse_cupl;

use crate::batches::PROMPT_ROWS;
use crate::embedder::Embedder;
use crate::limits;
use crate::pg::catalog::classifier::{self as catalog, ClassifierError, NewRows};
use crate::pg::error::{Error, Result};
use crate::pg::jsonb::Jsonb;
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;

/// The number of unknown categories that an error names.
const NAMED: usize = 10;

/// A sentence of a file. `ord` counts those of its category from 1.
#[derive(Clone, Copy, Debug)]
struct Sentence<'a> {
    category: &'a str,
    ord: usize,
    text: &'a str,
}

/// Adds sentences that describe the categories, `{"category": ["sentence", ...], ...}`. Returns how many. A category's
/// prototype is the normalised mean of all its prompts (CuPL+e).
#[pg_extern(volatile, parallel_unsafe)]
fn add_prompts(
    _version: SameVersion,
    classifier: Option<RegClass>,
    prompts: Option<Jsonb>,
) -> Result<i64, ErrorReport> {
    let classifier = Error::required(classifier, "classifier")?;
    let prompts = Error::required(prompts, "prompts")?;
    classifier.open_for_inserting()?;
    let embedder = Embedder::of(classifier)?;
    let file = parse_cupl(&prompts.text()?).map_err(Error::from)?;
    check_categories(classifier, file.keys())?;
    let sentences: Vec<Sentence> = file
        .iter()
        .flat_map(|(category, texts)| {
            check_for_interrupts!();
            (1..).zip(texts).map(move |(ord, text)| Sentence { category, ord, text })
        })
        .collect();
    limits::check("the number of prompts", limits::PROMPTS, sentences.len())?;
    for Sentence { category, ord, text } in &sentences {
        if text.len() > limits::TEXT_BYTES {
            let what = format!("category \"{category}\", element {ord}: the sentence");
            limits::check_bytes(what, limits::TEXT_BYTES, text.len())?;
        }
    }
    let mut added = 0;
    for batch in sentences.chunks(PROMPT_ROWS) {
        let texts: Vec<&str> = batch.iter().map(|sentence| sentence.text).collect();
        let embedding = embedder.named_texts(&texts, |index| {
            let Sentence { category, ord, .. } = batch[index];
            format!("category \"{category}\", element {ord}")
        })?;
        let rows = NewRows {
            kind: "prompt",
            origin: "cupl",
            category: batch.iter().map(|sentence| sentence.category.to_owned()).collect(),
            prompt: batch.iter().map(|sentence| Some(sentence.text.to_owned())).collect(),
            embedding,
            likeness: None,
        };
        added += catalog::insert_rows(classifier, rows)?;
    }
    Ok(i64::try_from(added).unwrap_or(i64::MAX))
}

/// An error if the classifier does not have all of these categories. It names those that are missing.
fn check_categories<'a>(classifier: RegClass, named: impl Iterator<Item = &'a String>) -> Result<()> {
    let known = catalog::categories(classifier)?;
    let set: HashSet<&String> = known.iter().collect();
    let missing: Vec<&String> = named.filter(|&category| !set.contains(category)).collect();
    match missing[..] {
        [] => Ok(()),
        [category] => Err(catalog::no_category(classifier, category)?),
        _ => Err(ClassifierError::NoCategories {
            classifier: classifier.name()?,
            missing: enumerate(&missing),
            known: catalog::known(&known),
        }
        .into()),
    }
}

/// A quoted list of at least two names, cut short if there are many.
fn enumerate(names: &[&String]) -> String {
    let quoted: Vec<String> = names.iter().take(NAMED).map(|name| format!("\"{name}\"")).collect();
    match (&quoted[..], names.len() - quoted.len()) {
        ([first @ .., last], 0) => format!("{} and {last}", first.join(", ")),
        (all, more) => format!("{} and {more} more", all.join(", ")),
    }
}
