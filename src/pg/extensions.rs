//! The extensions susx and pgvector, as installed in this database.

use std::cell::Cell;

use pgrx::pg_sys;

use super::error::{Error, Result};
use super::spi::first;
use super::spi::operators::EQ;

thread_local! {
    static VECTOR_TYPE: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::Oid::INVALID) };
    /// `None` until it was looked for; invalid where pgvector, before 0.7.0, does not have it.
    static HALFVEC_TYPE: Cell<Option<pg_sys::Oid>> = const { Cell::new(None) };
}

/// The version of susx in this database, from `CREATE EXTENSION` or the last `ALTER EXTENSION ... UPDATE`; `None` if
/// susx is not installed as an extension.
pub fn installed_version() -> Result<Option<String>> {
    first(&format!("SELECT extversion FROM pg_catalog.pg_extension WHERE extname {EQ} 'susx'"), &[])
}

/// The version of pgvector in this database; `None` if it is not installed.
pub fn vector_version() -> Result<Option<String>> {
    first(&format!("SELECT extversion FROM pg_catalog.pg_extension WHERE extname {EQ} 'vector'"), &[])
}

/// The OID of pgvector's type; invalid if the extension is not installed.
pub fn vector_type() -> pg_sys::Oid {
    if VECTOR_TYPE.get() == pg_sys::Oid::INVALID
        && let Ok(Some(found)) = type_of_pgvector("vector")
    {
        VECTOR_TYPE.set(found);
    }
    VECTOR_TYPE.get()
}

/// The OID of pgvector's type of half precision; invalid if pgvector does not have it.
pub fn halfvec_type() -> pg_sys::Oid {
    if HALFVEC_TYPE.get().is_none()
        && let Ok(found) = type_of_pgvector("halfvec")
    {
        HALFVEC_TYPE.set(Some(found.unwrap_or(pg_sys::Oid::INVALID)));
    }
    HALFVEC_TYPE.get().unwrap_or(pg_sys::Oid::INVALID)
}

/// Whether this type holds embeddings: vector or halfvec. Domains over them do not count.
pub fn is_vector_type(type_oid: pg_sys::Oid) -> bool {
    type_oid == vector_type() || type_oid != pg_sys::Oid::INVALID && type_oid == halfvec_type()
}

/// The type of pgvector that has this name, which must be a plain word.
fn type_of_pgvector(name: &str) -> Result<Option<pg_sys::Oid>> {
    let sql = format!(
        "SELECT t.oid FROM pg_catalog.pg_type t \
         JOIN pg_catalog.pg_extension e ON t.typnamespace {EQ} e.extnamespace \
         WHERE e.extname {EQ} 'vector' AND t.typname {EQ} '{name}'"
    );
    first(&sql, &[])
}

/// Clears the cached OIDs of pgvector's types. Called whenever a type changes.
pub fn forget_types() {
    VECTOR_TYPE.set(pg_sys::Oid::INVALID);
    HALFVEC_TYPE.set(None);
}

/// pgvector's schema, quoted for SQL text.
pub fn vector_schema() -> Result<String> {
    let sql = format!(
        "SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension e \
         JOIN pg_catalog.pg_namespace n ON n.oid {EQ} e.extnamespace WHERE e.extname {EQ} 'vector'"
    );
    first(&sql, &[])?.ok_or_else(|| Error::internal("the extension vector is not installed"))
}
