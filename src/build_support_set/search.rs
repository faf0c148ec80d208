//! The search for the images of a pool that are nearest to the prompts.

use ndarray::ArrayView2;
use susx_core::sus::{Retrieval, SupportError, unit};

use crate::batches::POOL_ROWS;
use crate::pg::catalog::pool::{IndexScan, Pool, with_long_scans};
use crate::pg::error::{Error, Result};
use crate::pg::message::warn;
use crate::pg::progress::{Phase, Progress};
use crate::pg::vector::Vector;

/// How many images an index scan reads for one prompt at most: pgvector's own default of hnsw.max_scan_tuples.
const INDEX_LIMIT: usize = 20_000;

/// Offers the images of the pool to a retrieval: by the pool's index if it has one that goes far enough, else all.
pub fn search(
    pool: &Pool,
    retrieval: impl Fn() -> Retrieval,
    dimensions: usize,
    per_class: usize,
    progress: &mut Progress,
) -> Result<Retrieval> {
    if pool.has_index() {
        let found = with_long_scans(pool, |scan| search_index(pool, retrieval(), per_class, scan, progress))?;
        if let Some(found) = found {
            return Ok(found);
        }
    }
    scan(pool, retrieval(), dimensions, progress)
}

/// Keys and unit features of some images of the pool.
#[derive(Debug)]
struct PoolBatch {
    dimensions: usize,
    keys: Vec<String>,
    elements: Vec<f32>,
    /// The number of vectors of zeros, which have no direction and are similar to nothing.
    zeros: usize,
}

impl PoolBatch {
    fn new(dimensions: usize) -> Self {
        PoolBatch { dimensions, keys: Vec::new(), elements: Vec::new(), zeros: 0 }
    }

    fn push(&mut self, key: String, embedding: &Vector) -> Result<()> {
        if embedding.0.len() != self.dimensions {
            let source = SupportError::Dimensions { expected: self.dimensions, found: embedding.0.len() };
            return Err(Error::from(source).within(format_args!("image {key} of the pool")));
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

/// Reads every image of the pool once.
fn scan(
    pool: &Pool,
    mut retrieval: Retrieval,
    dimensions: usize,
    progress: &mut Progress,
) -> Result<Retrieval> {
    // Counting is cheap: it does not read the embeddings, which are stored out of line.
    progress.phase(Phase::Reading, Some(pool.count()?));
    let mut batch = PoolBatch::new(dimensions);
    pool.read(|key, embedding| {
        batch.push(key, &embedding)?;
        if batch.keys.len() == POOL_ROWS {
            retrieval.offer(&batch.keys, batch.features()?);
            progress.advance(POOL_ROWS as u64, 0);
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

/// Reads every prompt's nearest images from pgvector's index: more and more, until enough of them are nearest to the
/// prompt's own category. `None` if the index scan ends before that, although the pool may have more images.
fn search_index(
    pool: &Pool,
    mut retrieval: Retrieval,
    per_class: usize,
    scan: IndexScan,
    progress: &mut Progress,
) -> Result<Option<Retrieval>> {
    let prompts = retrieval.prompts().to_owned();
    progress.phase(Phase::Reading, Some(prompts.nrows() as u64));
    for (prompt, query) in prompts.rows().into_iter().enumerate() {
        let query = query.to_vec();
        let mut limit = per_class.saturating_mul(4).min(INDEX_LIMIT);
        loop {
            let mut batch = PoolBatch::new(query.len());
            pool.nearest(&query, limit, |key, embedding| batch.push(key, &embedding))?;
            retrieval.restart(prompt);
            let has_enough = retrieval.offer_to(prompt, &batch.keys, batch.features()?);
            if !has_enough && batch.keys.len() < limit && scan == IndexScan::Limited {
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
