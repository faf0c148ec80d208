//! The embeddings that a running statement made last.
//!
//! `ORDER BY embedding <=> susx.embed_text('a red car')` calls the function for every row, and `label(…, image)` with
//! `known(…, image)` embeds the image twice. The functions are STABLE, so within a statement the answer is the same.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::image_vectors::ImageVectors;
use crate::pg::error::Result;
use crate::pg::statement::{self, StatementId};

/// How many are kept.
const MOST: usize = 16;

struct Recent {
    statement: StatementId,
    /// A digest of the input and of the models.
    key: [u8; 32],
    vectors: ImageVectors,
}

thread_local! {
    static RECENT: RefCell<VecDeque<Recent>> = const { RefCell::new(VecDeque::new()) };
}

/// The vectors that the running statement made for this key, else what `make` returns. Failures are not kept.
pub fn recent_or(
    key: impl FnOnce() -> [u8; 32],
    make: impl FnOnce() -> Result<ImageVectors>,
) -> Result<ImageVectors> {
    let Some(statement) = statement::current() else { return make() };
    let key = key();
    let is_wanted = |recent: &Recent| recent.statement == statement && recent.key == key;
    let found = RECENT.with_borrow(|recent| {
        recent.iter().find(|recent| is_wanted(recent)).map(|recent| recent.vectors.clone())
    });
    if let Some(found) = found {
        return Ok(found);
    }
    let vectors = make()?;
    RECENT.with_borrow_mut(|recent| {
        if recent.len() == MOST {
            recent.pop_front();
        }
        recent.push_back(Recent { statement, key, vectors: vectors.clone() });
    });
    Ok(vectors)
}

/// Forgets what a statement made.
pub fn end_statement(statement: StatementId) {
    RECENT.with_borrow_mut(|recent| recent.retain(|recent| recent.statement != statement));
}
