//! The extensions susx and pgvector, as installed in this database.

use std::cell::Cell;

use pgrx::pg_sys;

use super::error::{Error, Result};
use super::spi::first;
use super::spi::operators::EQ;

thread_local! {
    static VECTOR_TYPE: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::Oid::INVALID) };
}

/// The version of susx in this database, from `CREATE EXTENSION` or the last `ALTER EXTENSION ... UPDATE`; `None` if
/// susx is not installed as an extension.
pub fn installed_version() -> Result<Option<String>> {
    first(&format!("SELECT extversion FROM pg_catalog.pg_extension WHERE extname {EQ} 'susx'"), &[])
}

/// The OID of pgvector's type; invalid if the extension is not installed.
pub fn vector_type() -> pg_sys::Oid {
    if VECTOR_TYPE.get() == pg_sys::Oid::INVALID {
        let sql = format!(
            "SELECT t.oid FROM pg_catalog.pg_type t \
             JOIN pg_catalog.pg_extension e ON t.typnamespace {EQ} e.extnamespace \
             WHERE e.extname {EQ} 'vector' AND t.typname {EQ} 'vector'"
        );
        if let Ok(Some(found)) = first(&sql, &[]) {
            VECTOR_TYPE.set(found);
        }
    }
    VECTOR_TYPE.get()
}

/// Clears the cached OID of [`vector_type`]. Called whenever a type changes.
pub fn forget_types() {
    VECTOR_TYPE.set(pg_sys::Oid::INVALID);
}

/// pgvector's schema, quoted for SQL text.
pub fn vector_schema() -> Result<String> {
    let sql = format!(
        "SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension e \
         JOIN pg_catalog.pg_namespace n ON n.oid {EQ} e.extnamespace WHERE e.extname {EQ} 'vector'"
    );
    first(&sql, &[])?.ok_or_else(|| Error::internal("the extension vector is not installed"))
}
