//! The rows that a statement has written, as its trigger sees them.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use pgrx::PgTrigger;
use pgrx::spi::quote_identifier;

use super::images::{EXACT, Images, RowId, VERSION};
use super::with_settings;
use crate::pg::error::Result;
use crate::pg::image::Image;
use crate::pg::spi::{Row, TriggerCursor};
use crate::pg::vector::Vector;

/// Embeddings that are brought at a time.
const FETCH: i64 = 256;

/// A row that needs another embedding.
#[derive(Debug)]
pub struct Written {
    pub id: RowId,
    /// `None`: the row has no image any more, but the embedding of the one it had.
    pub image: Option<Image>,
    /// Whether it has the embedding of another image.
    pub is_stale: bool,
}

/// The names of the tables with the rows as they are after the statement and, of an UPDATE, before it.
#[derive(Clone, Copy, Debug)]
pub struct Transition<'a> {
    pub new: &'a str,
    pub old: Option<&'a str>,
}

/// The rows of a statement whose embedding is not of their image.
///
/// They are read from the table itself: another trigger may have changed them meanwhile.
pub struct WrittenRows<'a> {
    images: &'a Images,
    trigger: &'a PgTrigger<'a>,
    transition: Transition<'a>,
    cursor: TriggerCursor,
    /// Digests of all embeddings before the statement.
    known: OnceCell<HashSet<u64>>,
}

impl<'a> WrittenRows<'a> {
    pub fn open(images: &'a Images, trigger: &'a PgTrigger<'a>, transition: Transition<'a>) -> Result<Self> {
        let Images { table, image, embedding, .. } = images;
        let columns: Vec<String> = images.key.iter().map(|key| format!("t.{}", key.quoted)).collect();
        let columns = format!("{}, {}, {VERSION}, t.{image}", columns.join(", "), images.key_text());
        let new =
            format!("{} n JOIN {table} t ON {}", quote_identifier(transition.new), images.same_key("t", "n"));
        let sql = match transition.old.map(quote_identifier) {
            None => format!(
                "SELECT {columns} FROM {new} WHERE n.{embedding} IS NULL AND n.{image} IS NOT NULL \
                 AND t.{embedding} IS NULL AND t.{image} IS NOT NULL"
            ),
            Some(old) => format!(
                "SELECT {columns}, o.{image}, t.{embedding}, o.{embedding}, o.{} IS NOT NULL \
                 FROM {new} LEFT JOIN {old} o ON {} WHERE t.{image} IS NOT NULL OR t.{embedding} IS NOT NULL",
                images.key[0].quoted,
                images.same_key("o", "n"),
            ),
        };
        let cursor = TriggerCursor::in_trigger(trigger, &sql)?;
        Ok(WrittenRows { images, trigger, transition, cursor, known: OnceCell::new() })
    }

    /// The next rows, no more than so many, nor of more bytes than so many unless by the last; none at the
    /// end.
    pub fn next(&mut self, most: usize, most_bytes: usize) -> Result<Vec<Written>> {
        let WrittenRows { images, trigger, transition, cursor, known } = self;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        // The rest runs with the caller's settings: writing has triggers.
        with_settings(&EXACT, || {
            while rows.len() < most && bytes < most_bytes {
                let there_is_more = cursor.fetch(1, |row| {
                    let image = images.key.len() as i32 + 3;
                    let is_stale = match transition.old {
                        None => Some(false),
                        Some(old) => needs(row, image, || {
                            if known.get().is_none() {
                                let _ = known.set(embeddings(images, trigger, old)?);
                            }
                            Ok(known)
                        })?,
                    };
                    let Some(is_stale) = is_stale else { return Ok(true) };
                    let image: Option<Image> = row.get(image)?;
                    bytes += image.as_ref().map_or(0, Image::size);
                    rows.push(Written { id: images.row_id(row)?, image, is_stale });
                    Ok(true)
                })?;
                if !there_is_more {
                    break;
                }
            }
            Ok(())
        })?;
        Ok(rows)
    }
}

/// Whether a row after an UPDATE needs another embedding, and if it has one, that it is not of its image.
/// The columns are those of [`WrittenRows::open`], from the image on; `known` has the digests of all
/// embeddings before the UPDATE.
fn needs<'k>(
    row: &Row,
    image: i32,
    known: impl FnOnce() -> Result<&'k OnceCell<HashSet<u64>>>,
) -> Result<Option<bool>> {
    let [old_image, embedding, old_embedding, is_matched] = [1, 2, 3, 4].map(|i| image + i);
    let is_matched = row.required(is_matched)?;
    if is_matched && row.has_same_bytes(image, old_image)? {
        // An embedding that is taken away is asked for anew, but one that never was is not.
        let is_asked = row.is_null(embedding) && !row.is_null(old_embedding) && !row.is_null(image);
        return Ok(is_asked.then_some(false));
    }
    let Some(found) = row.get::<Vector>(embedding)? else {
        return Ok((!row.is_null(image)).then_some(false));
    };
    if row.is_null(image) && !is_matched {
        // It may never have had one, and nothing could make this embedding again.
        return Ok(None);
    }
    // With another key nobody knows which image the embedding is of. Else the statement may have given the
    // new image its embedding; one that was there before is of an old image, be it of this row or, where
    // keys were exchanged, of another.
    let is_stale = !is_matched || known()?.get().is_some_and(|known| known.contains(&digest(&found)));
    Ok(is_stale.then_some(true))
}

/// Digests of all embeddings in a transition table.
fn embeddings(images: &Images, trigger: &PgTrigger, table: &str) -> Result<HashSet<u64>> {
    let embedding = &images.embedding;
    let sql =
        format!("SELECT o.{embedding} FROM {} o WHERE o.{embedding} IS NOT NULL", quote_identifier(table));
    let mut digests = HashSet::new();
    let mut cursor = TriggerCursor::in_trigger(trigger, &sql)?;
    while cursor.fetch(FETCH, |row| {
        digests.insert(digest(&row.required(1)?));
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
