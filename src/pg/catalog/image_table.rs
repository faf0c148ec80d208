//! Tables of images to embed.
//!
//! A row is found again by its primary key and its version, which tells where the row lies and which transaction wrote
//! it. So no embedding goes to a row whose image has changed in the meantime.

mod missing_index;
mod read;
mod verified;
mod virtual_image;
mod write;

use std::ops::Deref;

use pgrx::PgSqlErrorCode;

use super::column::Column;
use super::keyed_table::KeyedTable;
use crate::pg::error::{Result, SqlError};
use crate::pg::regclass::RegClass;
pub use read::{ReadRows, Retry, Wanted};
pub use verified::{Mark, Verified, current_transaction};

/// Why the images of a table cannot be embedded.
#[derive(Debug, thiserror::Error)]
enum ImageTableError {
    #[error(
        "column \"{column}\" of relation \"{relation}\" has {expected} dimensions, but the model makes {found}"
    )]
    Dimensions { relation: String, column: String, expected: usize, found: usize },
}

impl SqlError for ImageTableError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        match self {
            ImageTableError::Dimensions { .. } => PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            ImageTableError::Dimensions { found, .. } => {
                format!("Pass the model of this column, or change its type to vector({found}).")
            }
        })
    }
}

/// A table of images, its columns checked and quoted.
#[derive(Debug)]
pub struct ImageTable {
    /// The column to write is the column of embeddings.
    rows: KeyedTable,
    /// The two columns, quoted for SQL text.
    pub(super) image: String,
    pub(super) embedding: String,
    /// The name of the column of images.
    image_name: String,
    /// Whether PostgreSQL computes the images from other columns.
    is_image_computed: bool,
    /// Whether it does so when they are read.
    pub(super) is_image_virtual: bool,
    /// The dimensions that the column of embeddings takes; `None` if its type does not fix them.
    dimensions: Option<usize>,
}

impl Deref for ImageTable {
    type Target = KeyedTable;

    fn deref(&self) -> &KeyedTable {
        &self.rows
    }
}

impl ImageTable {
    /// Checks the table, the two columns and the caller's rights, and locks the table against being changed until the
    /// transaction ends.
    ///
    /// A procedure does this again in every transaction, since anything may have changed in between. It costs no query:
    /// all of it is in PostgreSQL's caches, which take in such changes as the table is locked.
    pub fn open(relation: RegClass, image_column: &str, embedding_column: &str) -> Result<Self> {
        KeyedTable::check(relation, "embedded")?;
        let image = Column::of_images(relation, image_column)?;
        let embedding = Column::of_vectors(relation, embedding_column)?;
        embedding.check_writable(relation, embedding_column)?;
        Ok(ImageTable {
            rows: KeyedTable::of(relation, embedding_column, &[&image, &embedding])?,
            dimensions: embedding.dimensions(),
            is_image_computed: image.is_generated,
            is_image_virtual: image.is_virtual,
            image_name: image_column.to_owned(),
            image: image.quoted,
            embedding: embedding.quoted,
        })
    }

    /// An error if the column does not take vectors of `found` dimensions.
    pub fn check_dimensions(&self, found: usize) -> Result<()> {
        match self.dimensions.filter(|&expected| expected != found) {
            None => Ok(()),
            Some(expected) => Err(ImageTableError::Dimensions {
                relation: self.name.clone(),
                column: self.column.clone(),
                expected,
                found,
            }
            .into()),
        }
    }
}
