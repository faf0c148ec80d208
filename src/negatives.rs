//! Negatives: names of things that are none of a classifier's categories.
//!
//! An image that is more like them than like the categories is not known to be of any: see `susx.known`.

mod common;

use std::collections::HashSet;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::sus::{MOST_NEGATIVES, common_template, fill_templates};

use crate::batches::PROMPT_ROWS;
use crate::classifier::check_vectors;
use crate::embedder::Embedder;
use crate::pg::catalog::classifier::{self as catalog, ClassifierError, NewRows};
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::vector::Vector;
use crate::pg::version::SameVersion;
use crate::{arrays, limits};

/// The kind of their rows.
const KIND: &str = "negative";
/// The template of their prompts, unless the classifier was made with another single one: that of `create_classifier`.
const TEMPLATE: &str = "a photo of a {}.";

/// Adds names of other things, embedded by the classifier's model, or common nouns where no names are given. Returns how
/// many: names that are negatives already are skipped.
#[pg_extern(name = "add_negatives", volatile, parallel_unsafe)]
fn add_negatives_by_name(
    _version: SameVersion,
    classifier: Option<RegClass>,
    names: default!(Option<Array<'_, &str>>, "NULL"),
) -> Result<i64, ErrorReport> {
    let classifier = Error::required(classifier, "classifier")?;
    classifier.open_for_inserting()?;
    let embedder = embedder(classifier)?;
    catalog::allow_negatives(classifier)?;
    let template = template(classifier)?;
    let Some(names) = names else {
        return Ok(added(common::add(classifier, &embedder, &template)?));
    };
    let names = arrays::required(Some(&names), "names")?;
    check_names(classifier, &names)?;
    let new = new_names(classifier, &names)?;
    let mut total = 0;
    for batch in new.chunks(PROMPT_ROWS) {
        let (prompt, embedding) = embed(&embedder, &template, batch.iter().map(|&place| names[place]))?;
        let category = batch.iter().map(|&place| names[place].to_owned()).collect();
        let rows = NewRows { kind: KIND, origin: "given", category, prompt, embedding, likeness: None };
        total += catalog::insert_rows(classifier, rows)?;
    }
    Ok(added(total))
}

/// Adds names of other things by their text embeddings. Returns how many: names that are negatives already are skipped.
#[pg_extern(name = "add_negatives", volatile, parallel_unsafe)]
fn add_negatives_by_vector(
    _version: SameVersion,
    classifier: Option<RegClass>,
    names: Option<Array<'_, &str>>,
    text_embeddings: Option<Array<'_, Vector>>,
) -> Result<i64, ErrorReport> {
    let classifier = Error::required(classifier, "classifier")?;
    let names = arrays::required(names.as_ref(), "names")?;
    let embedding = arrays::required(text_embeddings.as_ref(), "text_embeddings")?;
    if names.len() != embedding.len() {
        let message = format!("there are {} names but {} text embeddings", names.len(), embedding.len());
        return Err(Error::argument(message).into());
    }
    classifier.open_for_inserting()?;
    catalog::settings(classifier)?;
    let dimensions = catalog::dimensions(classifier)?.unwrap_or(embedding[0].0.len());
    check_vectors(&embedding, dimensions)?;
    check_names(classifier, &names)?;
    catalog::allow_negatives(classifier)?;
    let new: HashSet<usize> = new_names(classifier, &names)?.into_iter().collect();
    let kept = (0..).zip(names.into_iter().zip(embedding)).filter(|(place, _)| new.contains(place));
    let (category, embedding): (Vec<String>, Vec<Vector>) =
        kept.map(|(_, (name, embedding))| (name.to_owned(), embedding)).unzip();
    let prompt = vec![None; category.len()];
    let rows = NewRows { kind: KIND, origin: "given", category, prompt, embedding, likeness: None };
    Ok(added(catalog::insert_rows(classifier, rows)?))
}

/// The embedder of a classifier; an error if the classifier has no model.
fn embedder(classifier: RegClass) -> Result<Embedder> {
    if catalog::settings(classifier)?.model.is_none() {
        let name = classifier.name()?;
        let hint = format!(
            "Pass the vectors of the names: susx.add_negatives('{name}', names, text_embeddings). Or set a model with \
             susx.alter_classifier(classifier, model => 'name')."
        );
        return Err(Error::from(ClassifierError::NoModel(name)).with_hint(hint));
    }
    Embedder::of(classifier)
}

/// The only template of the classifier's own prompts, else the default: negatives and categories are compared fairly if
/// they differ in the names alone.
fn template(classifier: RegClass) -> Result<String> {
    let mut prompts = Vec::new();
    catalog::read_prompts(classifier, &["template"], |category, prompt, _| {
        prompts.push((category.to_owned(), prompt.unwrap_or_default()));
        Ok(())
    })?;
    Ok(common_template(&prompts).unwrap_or_else(|| TEMPLATE.to_owned()))
}

/// The prompts of names, and their embeddings.
fn embed<'a>(
    embedder: &Embedder,
    template: &str,
    names: impl Iterator<Item = &'a str>,
) -> Result<(Vec<Option<String>>, Vec<Vector>)> {
    let (mut prompts, mut of) = (Vec::new(), Vec::new());
    for name in names {
        for prompt in fill_templates(&[template], name)? {
            limits::check_bytes(format!("the prompt of \"{name}\""), limits::TEXT_BYTES, prompt.len())?;
            prompts.push(prompt);
            of.push(name);
        }
    }
    let texts: Vec<&str> = prompts.iter().map(String::as_str).collect();
    let embeddings = embedder.named_texts(&texts, |index| format!("name \"{}\"", of[index]))?;
    Ok((prompts.into_iter().map(Some).collect(), embeddings))
}

/// An error if a name cannot be that of a negative.
fn check_names(classifier: RegClass, names: &[&str]) -> Result<()> {
    let categories: HashSet<String> = catalog::categories(classifier)?.into_iter().collect();
    for (index, &name) in names.iter().enumerate() {
        check_for_interrupts!();
        limits::check_element("names", index, name)?;
        if name.trim().is_empty() {
            return Err(Error::argument(format!("element {} of names is empty", index + 1)));
        }
        if categories.contains(name) {
            let message = format!("\"{name}\" is a category, so it cannot be the name of something else");
            return Err(Error::argument(message));
        }
    }
    Ok(())
}

/// The places of the names that are not negatives yet, each name once; an error if there would be too many negatives.
fn new_names(classifier: RegClass, names: &[&str]) -> Result<Vec<usize>> {
    let mut negatives = catalog::negatives(classifier)?;
    let mut new = Vec::new();
    for (place, &name) in names.iter().enumerate() {
        if negatives.insert(name.to_owned()) {
            new.push(place);
        }
    }
    limits::check("the number of negatives", MOST_NEGATIVES, negatives.len())?;
    Ok(new)
}

fn added(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
