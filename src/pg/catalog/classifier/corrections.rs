//! Support images of a classifier that have the key of a row of a table of images.

use std::collections::HashSet;

use super::super::write;
use crate::pg::error::Result;
use crate::pg::regclass::RegClass;
use crate::pg::spi::operators::EQ;
use crate::pg::spi::{self, arg, freeing_arguments};
use crate::pg::vector::Vector;

/// The keys of all labelled support images that have one.
pub fn labelled_keys(classifier: RegClass) -> Result<HashSet<String>> {
    let sql = format!(
        "SELECT source_key FROM {} WHERE kind {EQ} 'image' AND origin {EQ} 'labelled' AND source_key IS NOT NULL",
        classifier.quoted()?
    );
    let mut keys = HashSet::new();
    spi::read(&sql, &[], |row| {
        keys.insert(row.required_text(1, "the key of a support image")?);
        Ok(true)
    })?;
    Ok(keys)
}

/// Deletes the support images of a key: all of them, or those that are labelled. Returns how many there were.
pub fn delete_images_of(classifier: RegClass, key: &str, only_labelled: bool) -> Result<usize> {
    let origin = if only_labelled { format!("AND origin {EQ} 'labelled'") } else { String::new() };
    let sql = format!(
        "DELETE FROM {} WHERE kind {EQ} 'image' AND source_key {EQ} $1 {origin}",
        classifier.quoted()?
    );
    write(&sql, &[arg(key.to_owned())])
}

/// Adds the image of a row as a labelled support image. With a likeness vector, the table must have the column: see
/// `allow_likeness`.
pub fn insert_image_of(
    classifier: RegClass,
    key: &str,
    category: &str,
    embedding: Vector,
    likeness: Option<Vector>,
) -> Result<()> {
    // Without a likeness vector the column is not named: the table may not have it.
    let (column, value) = if likeness.is_some() { (", likeness", ", $4") } else { ("", "") };
    let sql = format!(
        "INSERT INTO {} (category, kind, origin, source_key, embedding{column}) \
         VALUES ($1, 'image', 'labelled', $2, $3{value})",
        classifier.quoted()?
    );
    freeing_arguments(|| {
        let mut args = vec![arg(category.to_owned()), arg(key.to_owned()), arg(embedding)];
        args.extend(likeness.map(arg));
        write(&sql, &args)
    })?;
    Ok(())
}
