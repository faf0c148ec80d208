//! Tables of images whose embeddings are to be written.
//!
//! A row is found again by its primary key and its version, which tells where the row lies and which transaction
//! wrote it: so no embedding goes to a row whose image was changed meanwhile.

mod read;
mod row_id;
mod write;

use pgrx::{PgSqlErrorCode, pg_sys};

use super::column::Column;
use super::key::{self, KeyColumn};
use crate::pg::error::{Error, Result, SqlError};
use crate::pg::regclass::RegClass;
use crate::pg::relation_error::RelationError;
pub use read::Retry;
pub use row_id::RowId;
pub(super) use row_id::{VERSION, WRITER};

/// Why the images of a table cannot be embedded.
#[derive(Debug, thiserror::Error)]
enum ImageTableError {
    #[error("\"{relation}\" is {what}: expected a table of images")]
    NotImages { relation: String, what: &'static str },
    #[error(
        "column \"{column}\" of relation \"{relation}\" takes {expected} dimensions, but the model makes {found}"
    )]
    Dimensions { relation: String, column: String, expected: usize, found: usize },
}

impl SqlError for ImageTableError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        match self {
            ImageTableError::NotImages { .. } => PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            ImageTableError::Dimensions { .. } => PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            ImageTableError::NotImages { .. } => {
                "Ordinary and partitioned tables, and partitions, can be embedded.".to_owned()
            }
            ImageTableError::Dimensions { found, .. } => format!(
                "Name the model that the column is for, or change the column's type to vector({found})."
            ),
        })
    }
}

/// A table of images, its columns checked and quoted.
#[derive(Debug)]
pub struct ImageTable {
    pub(super) relation: RegClass,
    /// The name of the column of embeddings.
    pub(super) column: String,
    /// The table's name for messages.
    pub name: String,
    /// The same, and the two columns, quoted for SQL text.
    pub(super) table: String,
    pub(super) image: String,
    pub(super) embedding: String,
    /// The dimensions that the column of embeddings takes; `None` if its type does not fix them.
    dimensions: Option<usize>,
    pub(super) key: Vec<KeyColumn>,
}

impl ImageTable {
    /// Checks the table, the two columns and the caller's rights, and locks the table against being changed until the
    /// transaction ends.
    ///
    /// A procedure does so again in every transaction, since anything may have changed in between. It costs no query:
    /// all of it is in PostgreSQL's caches, which take in such changes as the table is locked.
    pub fn open(relation: RegClass, image_column: &str, embedding_column: &str) -> Result<Self> {
        relation.open_for_reading()?;
        check_kind(relation)?;
        let name = relation.name()?;
        let image = Column::of_images(relation, image_column)?;
        let embedding = Column::of_vectors(relation, embedding_column)?;
        if embedding.is_generated {
            return Err(Error::argument(format!(
                "column \"{embedding_column}\" of relation \"{name}\" is a generated column"
            )));
        }
        if !embedding.is_writable {
            return Err(RelationError::Permission(name).into());
        }
        Ok(ImageTable {
            relation,
            column: embedding_column.to_owned(),
            table: relation.quoted()?,
            dimensions: embedding.dimensions(),
            image: image.quoted,
            embedding: embedding.quoted,
            key: key::of(relation)?,
            name,
        })
    }

    /// Whether this table's rows can be found by keys that were read from `other`.
    pub fn has_the_key_of(&self, other: &ImageTable) -> bool {
        self.key == other.key
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

fn check_kind(relation: RegClass) -> Result<()> {
    // SAFETY: the relation is locked, so it exists.
    let (kind, persistence, is_catalog) = unsafe {
        (
            pg_sys::get_rel_relkind(relation.0) as u8,
            pg_sys::get_rel_persistence(relation.0) as u8,
            pg_sys::IsCatalogRelationOid(relation.0),
        )
    };
    let what = match kind {
        _ if is_catalog => "a system catalog",
        _ if persistence == pg_sys::RELPERSISTENCE_TEMP => "a temporary table",
        pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE => return Ok(()),
        pg_sys::RELKIND_VIEW => "a view",
        pg_sys::RELKIND_MATVIEW => "a materialized view",
        pg_sys::RELKIND_FOREIGN_TABLE => "a foreign table",
        _ => "no table",
    };
    Err(ImageTableError::NotImages { relation: relation.name()?, what }.into())
}
