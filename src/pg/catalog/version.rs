//! Which version of the extension the database has.

use super::first;
use crate::pg::error::Result;

/// What `CREATE EXTENSION` or the last `ALTER EXTENSION ... UPDATE` has installed.
pub fn installed() -> Result<Option<String>> {
    let sql = "SELECT extversion FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'susx'";
    first(sql, &[])
}
