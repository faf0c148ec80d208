//! Support images, retrieved by the category names alone.

use std::collections::HashMap;

use ndarray::{Array2, ArrayView2};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::method::gda;
use susx_core::sus::{Retrieval, SupportError, SupportSet, unit};

use crate::fitted;
use crate::limits;
use crate::pg::catalog::classifier as catalog;
use crate::pg::catalog::made_by;
use crate::pg::catalog::pool::{Pool, Reach, Retrieved, with_long_scans};
use crate::pg::error::{Error, Result};
use crate::pg::message::warn;
use crate::pg::progress::{Command, Phase, Progress};
use crate::pg::regclass::RegClass;
use crate::pg::vector::Vector;
use crate::pg::version::SameVersion;
use crate::prompting::Prompting;

/// Images of the pool that are looked at together.
const BATCH: usize = 256;
/// How far an index scan goes for one prompt: pgvector's own default of hnsw.max_scan_tuples.
const INDEX_LIMIT: usize = 20_000;

/// Category, images, their mean similarity, and how far the category's support can be trusted.
type Row = (String, i32, Option<f32>, f32);

/// Makes the classifier's support set out of a pool of unlabelled images (SuS-LC).
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
    classifier.open_for_reading()?;
    let mut progress = Progress::start(Command::BuildSupportSet, classifier);
    let settings = catalog::settings(classifier)?;
    let pool = Pool::open(relation, embedding_column, image_column, key_column)?;
    made_by::check_pool(relation, embedding_column, classifier, &settings)?;
    let support_set = fitted::support_set(classifier)?;
    let prompts = Prompts::read(classifier, &support_set, prompting)?;
    let candidates = prompts.text.len().saturating_mul(per_class);
    limits::check("the number of prompts, times per_class,", limits::CANDIDATES, candidates)?;

    let retrieval = || {
        let Prompts { embeddings, category, .. } = &prompts;
        Retrieval::new(&support_set, embeddings.clone(), category.clone(), per_class, exclusive)
    };
    let mut retrieved = None;
    if pool.has_index() {
        retrieved = with_long_scans(&pool, |reach| {
            ask_the_index(&pool, retrieval(), per_class, reach, &mut progress)
        })?;
    }
    let retrieval = match retrieved {
        Some(retrieval) => retrieval,
        None => scan(&pool, retrieval(), support_set.dimensions(), &mut progress)?,
    };
    let chosen = retrieval.select();
    progress.phase(Phase::Writing, Some(chosen.len() as u64));
    let chosen = chosen.into_iter().map(|image| Retrieved {
        category: support_set.categories()[image.category].clone(),
        prompt: prompts.text[image.prompt].clone(),
        key: image.key,
        similarity: image.similarity,
    });
    catalog::delete_support(classifier, "retrieved")?;
    let copied = pool.copy(classifier, chosen.collect())?;
    let support_set = fitted::changed_support_set(classifier)?;
    let reliability = gda::reliability(&support_set, settings.params.check().map_err(Error::from)?);
    let rows: Vec<Row> = summary(&support_set, copied)
        .into_iter()
        .zip(reliability)
        .map(|((category, images, similarity), reliability)| (category, images, similarity, reliability))
        .collect();
    warn_of_absent(&support_set, &rows);
    Ok(TableIterator::new(rows))
}

/// The prompts that ask for images.
#[derive(Debug)]
struct Prompts {
    text: Vec<Option<String>>,
    category: Vec<usize>,
    /// Unit rows.
    embeddings: Array2<f32>,
}

impl Prompts {
    fn read(classifier: RegClass, support_set: &SupportSet, prompting: Prompting) -> Result<Self> {
        let place: HashMap<&str, usize> =
            support_set.categories().iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
        let (mut text, mut category, mut elements) = (Vec::new(), Vec::new(), Vec::new());
        catalog::read_prompts(classifier, prompting.origins(), |name, prompt, embedding| {
            let Some(&place) = place.get(name) else { return Ok(()) };
            elements.extend(unit(&embedding.0).map_err(|source| Error::Vector {
                what: format!("a prompt of category \"{name}\""),
                source,
            })?);
            text.push(prompt);
            category.push(place);
            Ok(())
        })?;
        if text.is_empty() {
            return Err(prompting.none());
        }
        let shape = (text.len(), support_set.dimensions());
        let embeddings = Array2::from_shape_vec(shape, elements).map_err(Error::internal)?;
        Ok(Prompts { text, category, embeddings })
    }
}

/// Unit features with their keys, until there are enough to look at together.
#[derive(Debug)]
struct Batch {
    dimensions: usize,
    keys: Vec<String>,
    elements: Vec<f32>,
    /// Vectors without a direction, which are similar to nothing.
    zeros: usize,
}

impl Batch {
    fn new(dimensions: usize) -> Self {
        Batch { dimensions, keys: Vec::new(), elements: Vec::new(), zeros: 0 }
    }

    fn push(&mut self, key: String, embedding: &Vector) -> Result<()> {
        if embedding.0.len() != self.dimensions {
            let source = SupportError::Dimensions { expected: self.dimensions, found: embedding.0.len() };
            return Err(Error::Vector { what: format!("image {key} of the pool"), source });
        }
        match unit(&embedding.0) {
            Ok(feature) => {
                self.keys.push(key);
                self.elements.extend(feature);
            }
            Err(_) => self.zeros += 1,
        }
        Ok(())
    }

    fn features(&self) -> Result<ArrayView2<'_, f32>> {
        ArrayView2::from_shape((self.keys.len(), self.dimensions), &self.elements).map_err(Error::internal)
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.elements.clear();
    }
}

/// Looks at every image of the pool once.
fn scan(
    pool: &Pool,
    mut retrieval: Retrieval,
    dimensions: usize,
    progress: &mut Progress,
) -> Result<Retrieval> {
    // Counting them does not read the embeddings, which are stored out of line.
    progress.phase(Phase::Reading, Some(pool.count()?));
    let mut batch = Batch::new(dimensions);
    pool.read(|key, embedding| {
        batch.push(key, &embedding)?;
        if batch.keys.len() == BATCH {
            retrieval.offer(&batch.keys, batch.features()?);
            progress.advance(BATCH as u64, 0);
            batch.clear();
        }
        Ok(())
    })?;
    retrieval.offer(&batch.keys, batch.features()?);
    if batch.zeros > 0 {
        warn(format!(
            "susx: {} images of the pool have an embedding of zeros and were left out",
            batch.zeros
        ));
    }
    Ok(retrieval)
}

/// Asks pgvector's index for every prompt's nearest images, more and more of them until enough are
/// nearest to the prompt's own category. `None` if the index ends before that, though the pool may not.
fn ask_the_index(
    pool: &Pool,
    mut retrieval: Retrieval,
    per_class: usize,
    reach: Reach,
    progress: &mut Progress,
) -> Result<Option<Retrieval>> {
    let prompts = retrieval.prompts().to_owned();
    progress.phase(Phase::Reading, Some(prompts.nrows() as u64));
    for (prompt, query) in prompts.rows().into_iter().enumerate() {
        let query = query.to_vec();
        let mut limit = per_class.saturating_mul(4).min(INDEX_LIMIT);
        loop {
            let mut batch = Batch::new(query.len());
            pool.nearest(&query, limit, |key, embedding| batch.push(key, &embedding))?;
            retrieval.restart(prompt);
            let has_enough = retrieval.offer_to(prompt, &batch.keys, batch.features()?);
            if !has_enough && batch.keys.len() < limit && reach == Reach::Limited {
                return Ok(None);
            }
            if has_enough || batch.keys.len() < limit || limit == INDEX_LIMIT {
                break;
            }
            limit = limit.saturating_mul(4).min(INDEX_LIMIT);
        }
        progress.advance(1, 0);
    }
    Ok(Some(retrieval))
}

/// Names the categories that the pool seems to show nothing of.
fn warn_of_absent(support_set: &SupportSet, rows: &[Row]) {
    let absent: Vec<String> = rows
        .iter()
        .enumerate()
        .filter(|&(c, &(_, images, _, reliability))| {
            images == 0 || gda::looks_absent(reliability, support_set.rows(c).len())
        })
        .map(|(_, (category, images, _, reliability))| match images {
            0 => format!("{category} (no image)"),
            images => format!("{category} ({images} images, reliability {reliability:.2})"),
        })
        .collect();
    if !absent.is_empty() {
        warn(format!(
            "susx: the pool seems to show nothing of these categories, which compete by their names alone, or \
             nearly so: {}",
            absent.join(", ")
        ));
    }
}

/// Every category with the number and the mean similarity of its images.
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
