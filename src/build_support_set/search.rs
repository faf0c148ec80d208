//! The search for the images of a pool that are nearest to the prompts.

use std::collections::HashSet;

use ndarray::ArrayView2;
use susx_core::sus::{ImageVector, MOST_NUMBERS, Retrieval, SupportError, unit};

use super::plan::{INDEX_LIMIT, SearchSize, first_limit, next_limit};
use crate::batches::POOL_ROWS;
use crate::limits;
use crate::pg::catalog::keyed_vectors::{KeyedVector, KeyedVectors};
use crate::pg::catalog::vector_index::{IndexScan, with_long_scans};
use crate::pg::error::{Error, Result};
use crate::pg::message::warn;
use crate::pg::progress::{Phase, Progress};

/// Offers the images of the pool to a retrieval: those that the pool's index returns, if it goes far enough, else all.
pub fn search(
    pool: &KeyedVectors,
    retrieval: impl Fn() -> Retrieval,
    rules: Rules,
    size: SearchSize,
    by_index: bool,
    progress: &mut Progress,
) -> Result<Retrieval> {
    if by_index {
        let search = |scan| search_index(pool, retrieval(), rules, size.per_class, scan, progress);
        if let Some(found) = with_long_scans(pool.operator(), search)? {
            return Ok(found);
        }
    }
    scan(pool, retrieval(), rules, size.images, progress)
}

/// By what images are compared with each other, to pass over near-duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    ByEmbedding,
    ByLikeness,
}

/// Which images of the pool count, and how they are compared.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// `None`: not at all, since near-duplicates are wanted, too.
    pub compared: Option<Compared>,
    /// Keys of images that are left out: the classifier has them already, with labels.
    pub labelled: &'a HashSet<String>,
}

/// Keys and unit features of some images of the pool.
#[derive(Debug)]
struct PoolBatch<'a> {
    dimensions: usize,
    rules: Rules<'a>,
    /// The number of labelled images, which are left out.
    left_out: usize,
    keys: Vec<String>,
    elements: Vec<f32>,
    /// The vectors by which images are compared with each other; none if they are not.
    vectors: Vec<ImageVector>,
    /// The number of vectors of zeros, which have no direction and are similar to nothing.
    zeros: usize,
}

impl<'a> PoolBatch<'a> {
    fn new(dimensions: usize, rules: Rules<'a>) -> Self {
        let (keys, elements, vectors) = (Vec::new(), Vec::new(), Vec::new());
        PoolBatch { dimensions, rules, left_out: 0, keys, elements, vectors, zeros: 0 }
    }

    fn push(&mut self, image: KeyedVector) -> Result<()> {
        let KeyedVector { key, embedding, likeness } = image;
        if embedding.0.len() != self.dimensions {
            let source = SupportError::Dimensions { expected: self.dimensions, found: embedding.0.len() };
            return Err(Error::from(source).within(format_args!("image {key} of the pool")));
        }
        if self.rules.labelled.contains(&key) {
            self.left_out += 1;
            return Ok(());
        }
        let Ok(feature) = unit(&embedding.0) else {
            self.zeros += 1;
            return Ok(());
        };
        match self.rules.compared {
            None => {}
            Some(Compared::ByEmbedding) => self.vectors.push(feature.as_slice().into()),
            // An image that has none cannot become a support image beside others that do.
            Some(Compared::ByLikeness) => {
                let likeness = likeness.and_then(|likeness| unit(&likeness.0).ok());
                self.vectors.push(likeness.unwrap_or_default().into());
            }
        }
        self.keys.push(key);
        self.elements.extend(feature);
        Ok(())
    }

    fn features(&self) -> Result<ArrayView2<'_, f32>> {
        ArrayView2::from_shape((self.keys.len(), self.dimensions), &self.elements).map_err(Error::internal)
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.elements.clear();
        self.vectors.clear();
    }
}

/// An error if the vectors of a retrieval's candidates take too much memory.
fn check_memory(retrieval: &Retrieval) -> Result<()> {
    let found = retrieval.kept_numbers();
    limits::check("the number of elements of the candidates' vectors", MOST_NUMBERS, found)
        .map_err(|error| error.with_hint("Pass skip_duplicates => 0, or a smaller per_class."))
}

/// Reads every image of the pool once.
fn scan(
    pool: &KeyedVectors,
    mut retrieval: Retrieval,
    rules: Rules,
    images: u64,
    progress: &mut Progress,
) -> Result<Retrieval> {
    progress.phase(Phase::Reading, Some(images));
    let mut batch = PoolBatch::new(retrieval.prompts().ncols(), rules);
    pool.read(|image| {
        batch.push(image)?;
        if batch.keys.len() == POOL_ROWS {
            retrieval.offer(&batch.keys, batch.features()?, &batch.vectors);
            check_memory(&retrieval)?;
            progress.advance(POOL_ROWS as u64, 0);
            batch.clear();
        }
        Ok(())
    })?;
    retrieval.offer(&batch.keys, batch.features()?, &batch.vectors);
    if batch.zeros > 0 {
        warn(format!(
            "susx: {} images of the pool have an all-zero embedding and were left out",
            batch.zeros
        ));
    }
    Ok(retrieval)
}

/// Reads every prompt's nearest images from pgvector's index: more and more, until enough of them are nearest to the
/// prompt's own category. `None` if the index scan ends before that, although the pool may have more images.
fn search_index(
    pool: &KeyedVectors,
    mut retrieval: Retrieval,
    rules: Rules,
    per_class: usize,
    scan: IndexScan,
    progress: &mut Progress,
) -> Result<Option<Retrieval>> {
    let prompts = retrieval.prompts().to_owned();
    progress.phase(Phase::Reading, Some(prompts.nrows() as u64));
    for (prompt, query) in prompts.rows().into_iter().enumerate() {
        let query = query.to_vec();
        let mut limit = first_limit(per_class);
        loop {
            let mut batch = PoolBatch::new(query.len(), rules);
            pool.nearest(&query, limit, |image| batch.push(image))?;
            retrieval.restart(prompt);
            let has_enough = retrieval.offer_to(prompt, &batch.keys, batch.features()?, &batch.vectors);
            check_memory(&retrieval)?;
            let found = batch.keys.len() + batch.left_out;
            if !has_enough && found < limit && scan == IndexScan::Limited {
                return Ok(None);
            }
            if has_enough || found < limit || limit == INDEX_LIMIT {
                break;
            }
            limit = next_limit(limit);
        }
        progress.advance(1, 0);
    }
    Ok(Some(retrieval))
}
