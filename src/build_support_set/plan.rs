//! Whether to read every image of a pool or to ask its index.
//!
//! Reading every image finds exactly the nearest ones and costs little per image, because rows are read in the order in
//! which they are stored. An index finds most of the nearest ones and costs more per image: it walks through a graph or
//! lists of vectors, and fetches each row from another page. So the index is worth it only for a pool with far more images
//! than the index returns.

use pgrx::PgSqlErrorCode;

use crate::pg::catalog::keyed_vectors::KeyedVectors;
use crate::pg::error::{Error, Result, SqlError};

/// How many images an index scan reads for one prompt at most: pgvector's own default of hnsw.max_scan_tuples.
pub const INDEX_LIMIT: usize = 20_000;

/// Seconds to read an image of a pool of which every image is read, without its elements. This and the following numbers
/// were measured, see `make bench ONLY=scale`; only their ratios matter.
const IMAGE: f64 = 3e-6;
/// Seconds to read an element of an image, and to multiply it with those of other vectors, for each.
const ELEMENT: f64 = 15e-9;
const PRODUCT: f64 = 0.05e-9;
/// Seconds for each image that an index returns.
const INDEXED_IMAGE: f64 = 70e-6;

/// The index must be this many times as fast, since it misses some of the nearest images.
const MUCH_FASTER: f64 = 4.0;

/// What decides how much work a search is.
#[derive(Clone, Copy, Debug)]
pub struct SearchSize {
    pub images: u64,
    pub prompts: usize,
    pub categories: usize,
    pub dimensions: usize,
    pub per_class: usize,
    pub exclusive: bool,
}

/// The caller asks for an index that the pool does not have.
#[derive(Debug, thiserror::Error)]
#[error("{table} has no hnsw or ivfflat index by the cosine distance on column \"{column}\"")]
struct NoIndex {
    table: String,
    column: String,
    /// The statement that creates one; `None` if the table can have none.
    create: Option<String>,
}

impl SqlError for NoIndex {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT
    }

    fn hint(&self) -> Option<String> {
        Some(match &self.create {
            Some(create) => format!("Create one, or leave out use_index: {create}"),
            None => "Only tables and materialized views have indexes. Leave out use_index, and every image is read.".to_owned(),
        })
    }
}

/// Whether to ask the index: as the caller says, else by the cost of both. An error if the caller asks for an index that
/// does not exist.
pub fn uses_index(pool: &KeyedVectors, size: SearchSize, wanted: Option<bool>) -> Result<bool> {
    if pool.operator().is_none() {
        return match wanted {
            Some(true) => {
                let (table, column) = pool.names();
                let (table, column) = (table.to_owned(), column.to_owned());
                Err(Error::from(NoIndex { table, column, create: pool.create_index() }))
            }
            _ => Ok(false),
        };
    }
    let (all, index) = (size.cost_of_all(), size.cost_of_index());
    let chosen = wanted.unwrap_or(MUCH_FASTER * index < all);
    let what = if chosen { "asks the index" } else { "reads every image" };
    pgrx::debug1!(
        "build_support_set {what}: estimated costs are {all:.3} s for all {} images, and {index:.3} s for the index with {} \
         prompts",
        size.images,
        size.prompts,
    );
    Ok(chosen)
}

impl SearchSize {
    /// Seconds to read every image and compare it with what must be compared.
    fn cost_of_all(&self) -> f64 {
        let compared = match self.exclusive {
            true => self.categories + self.prompts.div_ceil(self.categories.max(1)),
            false => self.prompts,
        };
        let elements = self.dimensions as f64;
        self.images as f64 * (IMAGE + elements * (ELEMENT + PRODUCT * compared as f64))
    }

    /// Seconds to ask the index for the nearest images of every prompt, twice on average, since the first ones are often
    /// nearer to other categories.
    fn cost_of_index(&self) -> f64 {
        let (first, second) = (first_limit(self.per_class), next_limit(first_limit(self.per_class)));
        self.prompts as f64 * INDEXED_IMAGE * (first + second) as f64
    }
}

/// How many images the index is asked for first.
pub fn first_limit(per_class: usize) -> usize {
    per_class.saturating_mul(4).min(INDEX_LIMIT)
}

/// How many it is asked for if these were not enough.
pub fn next_limit(limit: usize) -> usize {
    limit.saturating_mul(4).min(INDEX_LIMIT)
}
