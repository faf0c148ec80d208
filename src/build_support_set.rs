//! Support images, retrieved from a pool by the category names alone.

mod plan;
mod retrieval_prompts;
mod search;

use std::collections::HashMap;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::method::gated_tip_x;
use susx_core::sus::{Distinct, SupportSet};

use crate::limits;
use crate::limits::similarity;
use crate::pg::catalog::classifier as catalog;
use crate::pg::catalog::pool::{Pool, RetrievedImage};
use crate::pg::catalog::provenance;
use crate::pg::error::{Error, Result};
use crate::pg::message::warn;
use crate::pg::progress::{Command, Phase, Progress};
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;
use crate::prompting::Prompting;
use crate::support_set;
use plan::SearchSize;
use retrieval_prompts::RetrievalPrompts;
use search::{Compared, Rules, search};

/// Category, images, their mean similarity, and how far the category's support can be trusted.
type SupportRow = (String, i32, Option<f32>, f32);

/// Retrieves the classifier's support set from a pool of unlabelled images (SuS-LC). An image whose cosine to one that its
/// category has taken, or to any labelled image, is `skip_duplicates` or more is passed over; none is for 0. NULL stands for
/// 0.96, or for 0 if the vectors have fewer than 64 dimensions. `use_index` says whether to ask the pool's index, which may
/// miss images, or to read every image; NULL stands for the index where the pool is so large that it is far cheaper.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)]
fn build_support_set(
    _version: SameVersion,
    classifier: Option<RegClass>,
    pool: Option<RegClass>,
    per_class: default!(Option<i32>, "32"),
    prompting: default!(Option<&str>, "'photo'"),
    embedding_column: default!(Option<&str>, "'embedding'"),
    image_column: default!(Option<&str>, "NULL"),
    key_column: default!(Option<&str>, "NULL"),
    exclusive: default!(Option<bool>, "true"),
    likeness_column: default!(Option<&str>, "NULL"),
    skip_duplicates: default!(Option<f64>, "NULL"),
    use_index: default!(Option<bool>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(category, String),
            name!(images, i32),
            name!(similarity, Option<f32>),
            name!(reliability, f32),
        ),
    >,
    ErrorReport,
> {
    let classifier = Error::required(classifier, "classifier")?;
    let relation = Error::required(pool, "pool")?;
    let prompting = Prompting::named(Error::required(prompting, "prompting")?)?;
    let embedding_column = Error::required(embedding_column, "embedding_column")?;
    let exclusive = Error::required(exclusive, "exclusive")?;
    let per_class = limits::count(Error::required(per_class, "per_class")?, "per_class", limits::PER_CLASS)?;
    let duplicates = match skip_duplicates {
        None => Duplicates::Automatic,
        Some(0.0) => Duplicates::Taken,
        Some(threshold) => Duplicates::Skipped(similarity(threshold, "skip_duplicates")?),
    };
    classifier.open_for_reading()?;
    let mut progress = Progress::start(Command::BuildSupportSet, classifier);
    let settings = catalog::settings(classifier).map_err(|error| catalog::swapped(error, relation))?;
    let pool = Pool::open(relation, embedding_column, image_column, key_column)?;
    provenance::check_pool(relation, embedding_column, classifier, &settings)?;
    let pool = match provenance::pool_likeness(relation, likeness_column, classifier, &settings)? {
        Some(column) => {
            catalog::allow_likeness(classifier)?;
            pool.with_likeness(&column)?
        }
        None => pool,
    };
    let wanted = Wanted { prompting, per_class, exclusive, duplicates, use_index };
    let copied = replace_support(classifier, &pool, wanted, &mut progress)?;
    let support_set = support_set::changed(classifier)?;
    let reliability = gated_tip_x::reliability(&support_set, settings.params.check().map_err(Error::from)?);
    let rows: Vec<SupportRow> = summary(&support_set, copied)
        .into_iter()
        .zip(reliability)
        .map(|((category, images, similarity), reliability)| (category, images, similarity, reliability))
        .collect();
    warn_of_absent(&rows);
    Ok(TableIterator::new(rows))
}

/// Which images to retrieve.
struct Wanted {
    prompting: Prompting,
    per_class: usize,
    exclusive: bool,
    duplicates: Duplicates,
    use_index: Option<bool>,
}

/// What becomes of near-duplicates.
#[derive(Clone, Copy, PartialEq)]
enum Duplicates {
    Taken,
    /// From this cosine on, images are passed over.
    Skipped(f32),
    /// They are passed over where cosines tell them from other images.
    Automatic,
}

/// Replaces the retrieved images of a classifier. Returns each new one's category and similarity.
fn replace_support(
    classifier: RegClass,
    pool: &Pool,
    wanted: Wanted,
    progress: &mut Progress,
) -> Result<Vec<(String, f32)>> {
    let Wanted { prompting, per_class, exclusive, duplicates, use_index } = wanted;
    let support_set = support_set::of(classifier)?;
    let prompts = RetrievalPrompts::read(classifier, &support_set, prompting)?;
    let candidates = prompts.text.len().saturating_mul(per_class);
    limits::check("the number of prompts, times per_class,", limits::CANDIDATES, candidates)?;
    let compared = match pool.has_likeness() {
        true => Compared::ByLikeness,
        false => Compared::ByEmbedding,
    };
    let retrieval = || {
        let retrieval = prompts.retrieval(&support_set, per_class, exclusive);
        let by_likeness = compared == Compared::ByLikeness;
        match duplicates {
            Duplicates::Taken => retrieval,
            Duplicates::Skipped(threshold) => {
                retrieval.distinct(Distinct::new(&support_set, threshold, by_likeness))
            }
            Duplicates::Automatic => retrieval.distinct(Distinct::automatic(&support_set, by_likeness)),
        }
    };
    pool.vectors().check_has_images()?;
    let labelled = catalog::labelled_keys(classifier)?;
    let rules =
        Rules { compared: (duplicates != Duplicates::Taken).then_some(compared), labelled: &labelled };
    let size = SearchSize {
        images: pool.vectors().count()?,
        prompts: prompts.text.len(),
        categories: support_set.categories().len(),
        dimensions: support_set.dimensions(),
        per_class,
        exclusive,
    };
    let by_index = plan::uses_index(pool.vectors(), size, use_index)?;
    let chosen = search(pool.vectors(), retrieval, rules, size, by_index, progress)?.select();
    progress.phase(Phase::Writing, Some(chosen.len() as u64));
    let chosen = chosen.into_iter().map(|image| RetrievedImage {
        category: support_set.categories()[image.category].clone(),
        prompt: prompts.text[image.prompt].clone(),
        key: image.key,
        similarity: image.similarity,
    });
    catalog::delete_support(classifier, "retrieved")?;
    pool.copy(classifier, chosen.collect())
}

/// Warns of categories that the pool seems to show nothing of.
fn warn_of_absent(rows: &[SupportRow]) {
    let absent: Vec<String> = rows
        .iter()
        .enumerate()
        .filter(|(_, (_, images, _, reliability))| *images == 0 || gated_tip_x::looks_absent(*reliability))
        .map(|(_, (category, images, _, reliability))| match images {
            0 => format!("{category} (no image)"),
            images => format!("{category} ({images} images, reliability {reliability:.2})"),
        })
        .collect();
    if !absent.is_empty() {
        warn(format!(
            "susx: the pool does not seem to show these categories, so they are scored mostly or only by their names: \
             {}",
            absent.join(", ")
        ));
    }
}

/// Every category with the number of its images and their mean similarity.
fn summary(support_set: &SupportSet, images: Vec<(String, f32)>) -> Vec<(String, i32, Option<f32>)> {
    let mut sums: HashMap<String, (i32, f32)> = HashMap::new();
    for (category, similarity) in images {
        let sum = sums.entry(category).or_default();
        sum.0 += 1;
        sum.1 += similarity;
    }
    let row = |category: &String| match sums.get(category) {
        Some(&(images, similarity)) => (category.clone(), images, Some(similarity / images as f32)),
        None => (category.clone(), 0, None),
    };
    support_set.categories().iter().map(row).collect()
}
