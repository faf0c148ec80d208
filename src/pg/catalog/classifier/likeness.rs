//! The column of likeness vectors.
//!
//! Tables of classifiers that were made before there were likeness vectors have no column for them. Only the owner can add one, so the upgrade of the extension does not do it: it happens
//! when a table gets its first likeness vectors.

use super::super::column::Column;
use super::super::write;
use super::create::likeness_column;
use super::old_table::check_owner;
use crate::pg::error::Result;
use crate::pg::extensions::vector_schema;
use crate::pg::regclass::RegClass;
use crate::pg::spi::operators::EQ;
use crate::pg::spi::{self, Access};

/// Whether the classifier's table has a column of likeness vectors.
pub fn has_likeness_column(classifier: RegClass) -> Result<bool> {
    // An older table may have a column of this name that is its owner's.
    Column::holds_vectors(classifier, "likeness")
}

/// The dimensions of the likeness vectors that support images have; `None` if none has one.
///
/// The column's type does not fix them. The newest image is read, since a table's prompts come first.
pub fn likeness_dimensions(classifier: RegClass) -> Result<Option<usize>> {
    if !has_likeness_column(classifier)? {
        return Ok(None);
    }
    let sql = format!(
        "SELECT {}.vector_dims(likeness) FROM {} WHERE kind {EQ} 'image' AND likeness IS NOT NULL \
         ORDER BY id DESC LIMIT 1",
        vector_schema()?,
        classifier.quoted()?
    );
    let mut dimensions: Option<i32> = None;
    // Also those that the running statement has added.
    spi::read_in(Access::Current, &sql, &[], |row| {
        dimensions = row.get(1)?;
        Ok(false)
    })?;
    Ok(dimensions.and_then(|dimensions| usize::try_from(dimensions).ok()))
}

/// Gives the classifier's table a column of likeness vectors. Does nothing if there is one.
pub fn allow_likeness(classifier: RegClass) -> Result<()> {
    if has_likeness_column(classifier)? {
        return Ok(());
    }
    check_owner(classifier, "likeness vectors", "The first call that adds them adds a column to the table")?;
    write(
        &format!("ALTER TABLE {} ADD COLUMN {}", classifier.quoted()?, likeness_column(&vector_schema()?)),
        &[],
    )?;
    Ok(())
}
