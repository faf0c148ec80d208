//! The rows that a statement wrote and that need an embedding, found through its trigger's transition tables.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use pgrx::PgTrigger;
use pgrx::spi::quote_identifier;

use super::image_table::ImageTable;
use super::keyed_table::{RowId, VERSION};
use super::session_settings::{EXACT_TEXT, with_settings};
use crate::batches::FETCHED_ROWS;
use crate::pg::error::Result;
use crate::pg::image::Image;
use crate::pg::spi::{Row, TriggerCursor};
use crate::pg::vector::Vector;

/// A row whose embedding is not that of its image.
#[derive(Debug)]
pub struct TransitionRow {
    pub id: RowId,
    /// `None` if the row has lost its image, but still has that image's embedding.
    pub image: Option<Image>,
    /// Whether the row has the embedding of another image.
    pub is_stale: bool,
}

/// The names of the tables with the rows as they are after the statement and, for an UPDATE, before it.
#[derive(Clone, Copy, Debug)]
pub struct TransitionTables<'a> {
    pub new: &'a str,
    pub old: Option<&'a str>,
}

/// Reads the rows of a statement whose embedding is not that of their image.
///
/// Their present state comes from the table itself: another trigger may have changed them after the statement.
pub struct TransitionRows<'a> {
    images: &'a ImageTable,
    trigger: &'a PgTrigger<'a>,
    tables: TransitionTables<'a>,
    cursor: TriggerCursor,
    /// Digests of all embeddings before an UPDATE, read when they are first needed.
    old_embeddings: OnceCell<HashSet<u64>>,
}

impl<'a> TransitionRows<'a> {
    pub fn open(
        images: &'a ImageTable,
        trigger: &'a PgTrigger<'a>,
        tables: TransitionTables<'a>,
    ) -> Result<Self> {
        let ImageTable { image, embedding, .. } = images;
        let table = &images.table;
        let columns: Vec<String> = images.key.iter().map(|key| format!("t.{}", key.quoted)).collect();
        let columns = format!("{}, {}, {VERSION}, t.{image}", columns.join(", "), images.key_text());
        let new =
            format!("{} n JOIN {table} t ON {}", quote_identifier(tables.new), images.same_key("t", "n"));
        let sql = match tables.old.map(quote_identifier) {
            None => format!(
                "SELECT {columns} FROM {new} WHERE n.{embedding} IS NULL AND {} IS NOT NULL \
                 AND t.{embedding} IS NULL AND t.{image} IS NOT NULL",
                images.image_of("n")?
            ),
            Some(old) => format!(
                "SELECT {columns}, {}, t.{embedding}, o.{embedding}, o.{} IS NOT NULL \
                 FROM {new} LEFT JOIN {old} o ON {} WHERE t.{image} IS NOT NULL OR t.{embedding} IS NOT NULL",
                images.image_of("o")?,
                images.key[0].quoted,
                images.same_key("o", "n"),
            ),
        };
        let cursor = TriggerCursor::open(trigger, &sql)?;
        Ok(TransitionRows { images, trigger, tables, cursor, old_embeddings: OnceCell::new() })
    }

    /// The next rows, up to `most`, or fewer once their images have `most_bytes`. None at the end.
    pub fn next(&mut self, most: usize, most_bytes: usize) -> Result<Vec<TransitionRow>> {
        let TransitionRows { images, trigger, tables, cursor, old_embeddings } = self;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        // Only reading runs with these settings. Writing fires triggers, which see the caller's.
        with_settings(&EXACT_TEXT, || {
            while rows.len() < most && bytes < most_bytes {
                let has_more = cursor.fetch(1, |row| {
                    let image = images.key.len() as i32 + 3;
                    let is_stale = match tables.old {
                        None => Some(false),
                        Some(old) => needs_embedding(row, image, |found| {
                            if old_embeddings.get().is_none() {
                                let _ = old_embeddings.set(digests(images, trigger, old)?);
                            }
                            Ok(old_embeddings.get().is_some_and(|old| old.contains(&digest(found))))
                        })?,
                    };
                    let Some(is_stale) = is_stale else { return Ok(true) };
                    let image: Option<Image> = row.get(image)?;
                    bytes += image.as_ref().map_or(0, Image::size);
                    rows.push(TransitionRow { id: images.row_id(row)?, image, is_stale });
                    Ok(true)
                })?;
                if !has_more {
                    break;
                }
            }
            Ok(())
        })?;
        Ok(rows)
    }
}

/// Whether a row needs another embedding after an UPDATE: `None` if not, else whether it has the embedding of another
/// image. The columns are those of [`TransitionRows::open`], from the image on. `is_old` returns whether any row
/// had an embedding before the UPDATE.
fn needs_embedding(
    row: &Row,
    image: i32,
    is_old: impl FnOnce(&Vector) -> Result<bool>,
) -> Result<Option<bool>> {
    let [old_image, embedding, old_embedding, is_matched] = [1, 2, 3, 4].map(|i| image + i);
    let is_matched = row.required(is_matched)?;
    if is_matched && row.has_same_bytes(image, old_image)? {
        // Setting an embedding to NULL asks for a new one. A row that never had one is left alone.
        let is_asked = row.is_null(embedding) && !row.is_null(old_embedding) && !row.is_null(image);
        return Ok(is_asked.then_some(false));
    }
    let Some(found) = row.vector(embedding)? else {
        return Ok((!row.is_null(image)).then_some(false));
    };
    if row.is_null(image) && !is_matched {
        // The row may never have had an image, and its embedding could not be made again.
        return Ok(None);
    }
    // A row whose key was changed has no known former image, so its embedding cannot be trusted. Otherwise the
    // statement may have set the new image's embedding itself. An embedding that the table had before is that of an
    // old image: of this row's or, where keys were exchanged, of another's.
    let is_stale = !is_matched || is_old(&found)?;
    Ok(is_stale.then_some(true))
}

/// Digests of all embeddings in a transition table.
fn digests(images: &ImageTable, trigger: &PgTrigger, table: &str) -> Result<HashSet<u64>> {
    let embedding = &images.embedding;
    let sql =
        format!("SELECT o.{embedding} FROM {} o WHERE o.{embedding} IS NOT NULL", quote_identifier(table));
    let mut digests = HashSet::new();
    let mut cursor = TriggerCursor::open(trigger, &sql)?;
    while cursor.fetch(FETCHED_ROWS, |row| {
        digests.insert(digest(&row.required_vector(1)?));
        Ok(true)
    })? {}
    Ok(digests)
}

fn digest(vector: &Vector) -> u64 {
    let mut hasher = DefaultHasher::new();
    for element in &vector.0 {
        element.to_bits().hash(&mut hasher);
    }
    hasher.finish()
}
