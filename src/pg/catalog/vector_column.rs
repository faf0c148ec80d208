//! Columns of vectors that a table may lack.

use pgrx::spi::quote_identifier;

use super::column::Column;
use super::write;
use crate::pg::error::Result;
use crate::pg::extensions::vector_schema;
use crate::pg::regclass::RegClass;

/// What a table has under the name of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorColumn {
    Missing,
    OfDimensions(usize),
    /// Its type does not fix them.
    OfAnyDimensions,
}

impl VectorColumn {
    /// An error if there is a column of that name with another type than vector.
    pub fn find(relation: RegClass, name: &str) -> Result<Self> {
        relation.open_for_reading()?;
        if !Column::exists(relation, name)? {
            return Ok(VectorColumn::Missing);
        }
        let dimensions = Column::of_vectors(relation, name)?.dimensions();
        Ok(dimensions.map_or(VectorColumn::OfAnyDimensions, VectorColumn::OfDimensions))
    }
}

/// Adds a column to a table, with the caller's rights.
pub fn add_vector_column(relation: RegClass, name: &str, dimensions: usize) -> Result<()> {
    let sql = format!(
        "ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {}.vector({dimensions})",
        relation.quoted()?,
        quote_identifier(name),
        vector_schema()?
    );
    write(&sql, &[])?;
    Ok(())
}
