//! susx's own functions, as the caller may use them.

use crate::pg::error::Result;
use crate::pg::spi;
use crate::pg::spi::operators::{EQ, NE};

/// The functions and procedures that the caller may not execute; trigger functions do not count.
pub fn not_executable() -> Result<Vec<String>> {
    let sql = format!(
        "SELECT p.proname::pg_catalog.text FROM pg_catalog.pg_proc p \
         JOIN pg_catalog.pg_namespace n ON n.oid {EQ} p.pronamespace \
         WHERE n.nspname {EQ} 'susx' AND NOT pg_catalog.has_function_privilege(p.oid, 'EXECUTE') \
         AND p.prorettype {NE} ALL ('{{trigger,event_trigger}}'::pg_catalog.regtype[]) ORDER BY 1"
    );
    let mut found = Vec::new();
    spi::read(&sql, &[], |row| {
        found.push(row.required(1)?);
        Ok(true)
    })?;
    found.dedup();
    Ok(found)
}
