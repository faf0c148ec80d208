//! Images that PostgreSQL computes when they are read. Transition tables do not have such columns.

use pgrx::spi::quote_identifier;

use super::ImageTable;
use crate::pg::error::{Error, Result};
use crate::pg::spi::operators::{EQ, GT, NE};
use crate::pg::spi::{self, arg, first};

impl ImageTable {
    /// The image of a row of a transition table, as an SQL expression.
    pub(in crate::pg::catalog) fn image_of(&self, row: &str) -> Result<String> {
        if !self.is_image_virtual {
            return Ok(format!("{row}.{}", self.image));
        }
        let sql = format!(
            "SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d \
             JOIN pg_catalog.pg_attribute a ON a.attrelid {EQ} d.adrelid AND a.attnum {EQ} d.adnum \
             WHERE d.adrelid {EQ} $1 AND a.attname {EQ} $2::pg_catalog.name"
        );
        let expression: Option<String> = first(&sql, &[arg(self.relation.0), arg(self.image_name.clone())])?;
        let expression = expression.ok_or_else(|| Error::internal("a generated column has no expression"))?;
        let sql = format!(
            "SELECT attname::pg_catalog.text FROM pg_catalog.pg_attribute \
             WHERE attrelid {EQ} $1 AND attnum {GT} 0 AND NOT attisdropped AND attgenerated {NE} 'v' ORDER BY attnum"
        );
        let mut columns = Vec::new();
        spi::read(&sql, &[arg(self.relation.0)], |found| {
            columns.push(format!("{row}.{}", quote_identifier(found.required::<String>(1)?)));
            Ok(true)
        })?;
        // The expression has names of columns alone, which this makes those of the row.
        Ok(format!("(SELECT {expression} FROM (SELECT {}) computed)", columns.join(", ")))
    }
}
