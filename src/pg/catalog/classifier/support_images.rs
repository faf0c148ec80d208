//! The files of support images, where a classifier's table keeps them.

use crate::pg::error::Result;
use crate::pg::image::StoredImage;
use crate::pg::regclass::RegClass;
use crate::pg::spi::operators::{EQ, LE};
use crate::pg::spi::{self, arg};

/// A support image whose file is in the table.
#[derive(Debug)]
pub struct SupportImage {
    pub id: i64,
    pub category: String,
    pub file: StoredImage,
}

/// Up to `most` support images with a file of each of these categories: first those that a user has labelled, then
/// those that are most like their prompts.
pub fn support_images(classifier: RegClass, categories: Vec<String>, most: i64) -> Result<Vec<SupportImage>> {
    let sql = format!(
        "SELECT s.id, s.category, s.image FROM (SELECT id, category, image, pg_catalog.row_number() OVER (PARTITION BY \
         category ORDER BY origin {EQ} 'labelled' DESC, similarity DESC NULLS LAST, id) AS place FROM {} \
         WHERE kind {EQ} 'image' AND image IS NOT NULL AND category {EQ} ANY ($1)) s \
         WHERE s.place {LE} $2 ORDER BY s.place, s.id",
        classifier.quoted()?
    );
    let mut images = Vec::new();
    spi::read(&sql, &[arg(categories), arg(most)], |row| {
        if let Some(file) = row.stored_image(3)? {
            images.push(SupportImage { id: row.required(1)?, category: row.required(2)?, file });
        }
        Ok(true)
    })?;
    Ok(images)
}
