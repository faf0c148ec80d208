//! The tables that a table is a part of, and those that are parts of it: by partitioning or inheritance.

use super::KeyedTable;
use crate::pg::error::Result;
use crate::pg::regclass::RegClass;
use crate::pg::spi::operators::EQ;
use crate::pg::spi::{self, arg};

impl KeyedTable {
    /// The tables that this one is a part of, at all levels.
    pub fn parents(&self) -> Result<Vec<RegClass>> {
        let sql = format!(
            "WITH RECURSIVE family AS (SELECT inhparent AS oid FROM pg_catalog.pg_inherits WHERE inhrelid {EQ} $1 \
             UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN family f ON i.inhrelid {EQ} f.oid) \
             SELECT oid FROM family"
        );
        let mut found = Vec::new();
        spi::read(&sql, &[arg(self.relation.0)], |row| {
            found.push(RegClass(row.required(1)?));
            Ok(true)
        })?;
        Ok(found)
    }
}
