//! Creating classifiers and changing their settings.

use std::collections::HashMap;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::classifier::{ClassifierParams, PartialParams};
use susx_core::sus::{PLACEHOLDER, fill_templates, unit};
use susx_server::protocol::{Cut, Model, TextEmbedding};

use crate::inference::client::{self, Stream};
use crate::pg::catalog::classifier::{self as catalog, ClassifierError, NewRows, Settings, sync};
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::relcache;
use crate::pg::trigger::{NewRow, TriggerCall};
use crate::pg::vector::Vector;
use crate::pg::version::SameVersion;
use crate::{arrays, cut_texts, limits};

/// The kind of the models that embed only images.
const VISION: &str = "vision";

/// Creates the table of a classifier, with one prompt per template and category.
#[pg_extern(name = "create_classifier", volatile, parallel_unsafe)]
fn create_classifier_from_names(
    _version: SameVersion,
    name: Option<&str>,
    categories: Option<Array<'_, &str>>,
    templates: default!(Option<Array<'_, &str>>, "ARRAY['a photo of a {}.']"),
    model: default!(Option<&str>, "NULL"),
    likeness_model: default!(Option<&str>, "NULL"),
) -> Result<RegClass, ErrorReport> {
    let name = checked_name(name)?;
    let categories = checked_categories(categories.as_ref())?;
    let templates = arrays::required(templates.as_ref(), "templates")?;
    check_prompts(&categories, &templates)?;
    let mut category = Vec::new();
    let mut prompt = Vec::new();
    for name in categories {
        check_for_interrupts!();
        for text in fill_templates(&templates, name).map_err(Error::from)? {
            category.push(name.to_owned());
            prompt.push(text);
        }
    }
    let model = describe_whole(model)?;
    if model.kind.as_deref() == Some(VISION) {
        return Err(Error::from(ClassifierError::ModelOfImages(model.name)).into());
    }
    let likeness = likeness_model.map(describe_likeness).transpose()?;
    let texts: Vec<&str> = prompt.iter().map(String::as_str).collect();
    let (embedding, cuts) = embeddings(client::embed_texts(Stream::new(Some(&model.name)), &texts)?)?;
    check_distinct(&category, &cuts)?;
    cut_texts::warn(&cuts, |index| {
        cut_texts::quoted(format_args!("category \"{}\": the prompt", category[index]), &prompt[index])
    });
    let settings = Settings {
        model: Some(model.name),
        model_sha256: model.sha256.map(|sha256| sha256.to_vec()),
        likeness_sha256: likeness.as_ref().and_then(|likeness| Some(likeness.sha256?.to_vec())),
        likeness_model: likeness.map(|likeness| likeness.name),
        method: None,
        params: model.defaults.apply_to(ClassifierParams::START),
    };
    let prompt = prompt.into_iter().map(Some).collect();
    let rows = NewRows { kind: "prompt", origin: "template", category, prompt, embedding, likeness: None };
    Ok(create(name, &settings, rows)?)
}

/// Creates the table of a classifier whose categories have the given text embeddings.
#[pg_extern(name = "create_classifier", volatile, parallel_unsafe)]
fn create_classifier_from_vectors(
    _version: SameVersion,
    name: Option<&str>,
    categories: Option<Array<'_, &str>>,
    text_embeddings: Option<Array<'_, Vector>>,
) -> Result<RegClass, ErrorReport> {
    let name = checked_name(name)?;
    let category = checked_categories(categories.as_ref())?;
    let embedding = arrays::required(text_embeddings.as_ref(), "text_embeddings")?;
    if category.len() != embedding.len() {
        let message =
            format!("there are {} categories but {} text embeddings", category.len(), embedding.len());
        return Err(Error::argument(message).into());
    }
    check_vectors(&embedding, embedding[0].0.len())?;
    let prompt = vec![None; category.len()];
    let category = category.into_iter().map(str::to_owned).collect();
    let rows = NewRows { kind: "prompt", origin: "given", category, prompt, embedding, likeness: None };
    Ok(create(name, &Settings::START, rows)?)
}

/// Changes a classifier's settings; NULL leaves a setting as it is.
///
/// The numbers are double precision because drivers send that type, which PostgreSQL does not cast to real implicitly.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::too_many_arguments)]
fn alter_classifier(
    _version: SameVersion,
    classifier: Option<RegClass>,
    alpha: default!(Option<f64>, "NULL"),
    beta: default!(Option<f64>, "NULL"),
    gamma: default!(Option<f64>, "NULL"),
    temperature: default!(Option<f64>, "NULL"),
    logit_scale: default!(Option<f64>, "NULL"),
    method: default!(Option<&str>, "NULL"),
    model: default!(Option<&str>, "NULL"),
    lambda: default!(Option<f64>, "NULL"),
    ridge: default!(Option<f64>, "NULL"),
    probability_temperature: default!(Option<f64>, "NULL"),
    reject: default!(Option<f64>, "NULL"),
    likeness_model: default!(Option<&str>, "NULL"),
    tag_threshold: default!(Option<f64>, "NULL"),
) -> Result<(), ErrorReport> {
    let classifier = Error::required(classifier, "classifier")?;
    classifier.open_for_reading()?;
    let mut settings = catalog::settings(classifier)?;
    let given = PartialParams {
        alpha: alpha.map(single),
        beta: beta.map(single),
        gamma: gamma.map(single),
        temperature: temperature.map(single),
        logit_scale: logit_scale.map(single),
        lambda: lambda.map(single),
        ridge: ridge.map(single),
        probability_temperature: probability_temperature.map(single),
        reject: reject.map(single),
        tag_threshold: tag_threshold.map(single),
    };
    settings.params = given.apply_to(settings.params);
    settings.params.check().map_err(Error::from)?;
    match method {
        None => {}
        Some(AUTOMATIC) => settings.method = None,
        Some(name) => settings.method = Some(name.parse().map_err(Error::from)?),
    }
    if let Some(model) = model {
        let model = describe_whole(Some(model))?;
        let found = model.dimensions.map_or(0, |dimensions| dimensions as usize);
        if let Some(expected) = catalog::dimensions(classifier)?.filter(|&expected| expected != found) {
            let classifier = classifier.name()?;
            return Err(Error::from(ClassifierError::Dimensions { classifier, expected, found }).into());
        }
        settings.model = Some(model.name);
        settings.model_sha256 = model.sha256.map(|sha256| sha256.to_vec());
    }
    match likeness_model {
        None => {}
        Some(NO_LIKENESS) => (settings.likeness_model, settings.likeness_sha256) = (None, None),
        Some(model) => {
            let model = describe_likeness(model)?;
            check_likeness(classifier, &model)?;
            settings.likeness_model = Some(model.name);
            settings.likeness_sha256 = model.sha256.map(|sha256| sha256.to_vec());
        }
    }
    Ok(catalog::update_settings(classifier, &settings)?)
}

/// The name that restores the default method: gated TIP-X with support images, zero-shot without.
const AUTOMATIC: &str = "auto";

/// The name that removes the model of the likeness vectors.
const NO_LIKENESS: &str = "none";

/// Describes a classifier's model; an error if one of its encoders is broken. Repairing it changes the model's files,
/// so they are no longer those that the classifier was made with.
fn describe_whole(model: Option<&str>) -> Result<Model> {
    let mut model = client::describe(model)?;
    match model.broken.take() {
        Some(failure) => Err(failure.into()),
        None => Ok(model),
    }
}

/// Describes a model that is to make likeness vectors; an error if it embeds no images.
fn describe_likeness(model: &str) -> Result<Model> {
    let model = client::describe(Some(model))?;
    match model.kind.as_deref() {
        Some("text") => Err(ClassifierError::NoImages(model.name).into()),
        _ => Ok(model),
    }
}

/// An error if support images have likeness vectors of other dimensions than the model makes.
fn check_likeness(classifier: RegClass, model: &Model) -> Result<()> {
    let found = model.dimensions.map_or(0, |dimensions| dimensions as usize);
    let Some(expected) = catalog::likeness_dimensions(classifier)?.filter(|&expected| expected != found)
    else {
        return Ok(());
    };
    let (table, classifier) = (classifier.quoted()?, classifier.name()?);
    let hint = format!(
        "To have those of another model, first UPDATE {table} SET likeness = NULL; after this call, call \
         susx.build_support_set again."
    );
    Err(Error::from(ClassifierError::LikenessDimensions { classifier, expected, found }).with_hint(hint))
}

fn single(value: f64) -> f32 {
    value as f32
}

/// Trigger on every classifier's table: invalidates what sessions have fitted to it, and carries settings that stand in
/// the table to `susx.classifier`.
#[pg_extern(sql = r#"
CREATE FUNCTION susx.classifier_changed() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn classifier_changed(call: TriggerCall) -> Result<NewRow, ErrorReport> {
    let trigger = call.trigger()?;
    let classifier = RegClass(trigger.relid().map_err(Error::internal)?);
    relcache::invalidate(classifier);
    let may_be_settings = match (trigger.new(), trigger.old()) {
        // For each statement: the row of settings is looked up by its key.
        (None, None) => true,
        (Some(row), _) => sync::is_settings(&row)?,
        (None, Some(_)) => false,
    };
    if may_be_settings {
        sync::of_table(classifier)?;
    }
    Ok(NewRow::NONE)
}

/// Trigger on `susx.classifier`: the same for a classifier whose settings change there.
#[pg_extern(sql = r#"
CREATE FUNCTION susx.settings_changed() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn settings_changed(call: TriggerCall) -> Result<NewRow, ErrorReport> {
    let trigger = call.trigger()?;
    for row in [trigger.old(), trigger.new()].into_iter().flatten() {
        let classifier: Option<pg_sys::Oid> = row.get_by_name("classifier").map_err(Error::internal)?;
        if let Some(classifier) = classifier.map(RegClass) {
            // The same lock as for a change of its rows: until it commits, other sessions do not trust their fits.
            classifier.lock_for_writing();
            relcache::invalidate(classifier);
        }
    }
    if let Some(row) = trigger.new() {
        sync::to_table(&row)?;
    }
    Ok(NewRow::NONE)
}

fn create(name: &str, settings: &Settings, prompts: NewRows) -> Result<RegClass> {
    let classifier = catalog::create_table(name, prompts.embedding[0].0.len())?;
    catalog::insert_rows(classifier, prompts)?;
    // Last, so that the first rows of the table are prompts to who looks at a few.
    catalog::insert_settings(classifier, settings)?;
    Ok(classifier)
}

fn checked_name(name: Option<&str>) -> Result<&str> {
    limits::check_name("the name of a classifier", name)?;
    Error::required(name, "name")
}

fn checked_categories<'a>(categories: Option<&'a Array<'_, &str>>) -> Result<Vec<&'a str>> {
    let categories = arrays::required(categories, "categories")?;
    limits::check("the number of categories", limits::CATEGORIES, categories.len())?;
    let mut seen = std::collections::HashSet::new();
    for (index, &category) in categories.iter().enumerate() {
        limits::check_element("categories", index, category)?;
        if category.trim().is_empty() {
            return Err(Error::argument("a category's name must not be empty"));
        }
        if !seen.insert(category) {
            return Err(Error::argument(format!("category \"{category}\" is named twice")));
        }
    }
    Ok(categories)
}

/// Fails if the prompts of all templates and categories would be too many or too long, before any is built: a template
/// may contain the name many times.
fn check_prompts(categories: &[&str], templates: &[&str]) -> Result<()> {
    let count = categories.len().saturating_mul(templates.len());
    limits::check("the number of categories times that of templates", limits::PROMPTS, count)?;
    let mut bytes = 0usize;
    for (index, template) in templates.iter().enumerate() {
        check_for_interrupts!();
        limits::check_element("templates", index, template)?;
        let placeholders = template.matches(PLACEHOLDER).count();
        for category in categories {
            let length = template.len() - placeholders * PLACEHOLDER.len() + placeholders * category.len();
            if length > limits::TEXT_BYTES {
                let what = format!("the prompt of element {} of templates", index + 1);
                limits::check_bytes(what, limits::TEXT_BYTES, length)?;
            }
            bytes += length;
        }
    }
    limits::check_bytes("all prompts together", limits::PROMPT_BYTES, bytes)
}

/// Fails unless all vectors have this number of dimensions and a direction.
pub(crate) fn check_vectors(vectors: &[Vector], dimensions: usize) -> Result<()> {
    for (ord, vector) in (1..).zip(vectors) {
        check_for_interrupts!();
        let what = || format!("element {ord}");
        if vector.0.len() != dimensions {
            let source =
                susx_core::sus::SupportError::Dimensions { expected: dimensions, found: vector.0.len() };
            return Err(Error::from(source).within(what()));
        }
        unit(&vector.0).map_err(|error| Error::from(error).within(what()))?;
    }
    Ok(())
}

/// Fails if two categories have the same prompts as far as the model reads them. The prompts of a category are consecutive.
fn check_distinct(categories: &[String], cuts: &[Option<Cut>]) -> Result<()> {
    let mut seen: HashMap<Vec<Cut>, &str> = HashMap::new();
    let mut first = 0;
    for prompts in categories.chunk_by(|a, b| a == b) {
        let cuts = &cuts[first..first + prompts.len()];
        first += prompts.len();
        let Some(read) = cuts.iter().copied().collect::<Option<Vec<Cut>>>() else { continue };
        let (category, tokens) = (&prompts[0], read[0].tokens);
        if let Some(other) = seen.insert(read, category) {
            let (a, b) = (cut_texts::quoted("categories", other), cut_texts::quoted("and", category));
            let message = format!("{a} {b} differ only after the {tokens} tokens that the model reads");
            return Err(Error::argument(message).with_hint("Write shorter names or templates."));
        }
    }
    Ok(())
}

fn embeddings(answers: Vec<client::OfText>) -> Result<(Vec<Vector>, Vec<Option<Cut>>)> {
    (1..)
        .zip(answers)
        .map(|(ord, answer)| match answer {
            Ok(TextEmbedding { vector, cut }) => Ok((Vector::new(vector)?, cut)),
            Err(failure) => Err(Error::from(failure).within(format_args!("element {ord}"))),
        })
        .collect()
}
