//! A column that the caller has named.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::spi::quote_identifier;

use super::{arg, vector_type};
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::spi;

/// A column of a table, quoted for SQL text.
#[derive(Debug)]
pub struct Column {
    pub quoted: String,
    pub type_name: String,
    /// Whether the type is one of pg_catalog's.
    pub is_built_in: bool,
    /// Below all domains, the type and its modifier: for a vector the dimensions, or -1.
    base: pg_sys::Oid,
    modifier: i32,
    /// Whether the caller may update it.
    pub is_writable: bool,
    /// Whether PostgreSQL computes it.
    pub is_generated: bool,
}

impl Column {
    pub fn open(relation: RegClass, name: &str) -> Result<Self> {
        let mut found = None;
        spi::read(
            "SELECT a.atttypid, a.atttypmod, pg_catalog.format_type(a.atttypid, a.atttypmod), \
             t.typnamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace, \
             pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'UPDATE'), \
             a.attgenerated OPERATOR(pg_catalog.<>) '' OR a.attidentity OPERATOR(pg_catalog.=) 'a' \
             FROM pg_catalog.pg_attribute a \
             JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) a.atttypid \
             WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attname OPERATOR(pg_catalog.=) $2 \
             AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped",
            &[arg(relation.0), arg(name.to_owned())],
            |row| {
                let mut modifier = row.required(2)?;
                // SAFETY: the OID is of a type that exists.
                let base = unsafe { pg_sys::getBaseTypeAndTypmod(row.required(1)?, &mut modifier) };
                found = Some(Column {
                    quoted: quote_identifier(name),
                    type_name: row.required(3)?,
                    is_built_in: row.required(4)?,
                    base,
                    modifier,
                    is_writable: row.required(5)?,
                    is_generated: row.required(6)?,
                });
                Ok(false)
            },
        )?;
        match found {
            Some(column) => Ok(column),
            None => Err(Error::NoColumn { relation: relation.name()?, column: name.to_owned() }),
        }
    }

    /// A column of embeddings.
    pub fn of_vectors(relation: RegClass, name: &str) -> Result<Self> {
        Self::of_type(relation, name, vector_type(), "vector")
    }

    /// A column of image files.
    pub fn of_images(relation: RegClass, name: &str) -> Result<Self> {
        Self::of_type(relation, name, pg_sys::BYTEAOID, "bytea")
    }

    fn of_type(relation: RegClass, name: &str, expected: pg_sys::Oid, expected_name: &str) -> Result<Self> {
        let column = Self::open(relation, name)?;
        if column.base != expected {
            return Err(Error::argument(format!(
                "column \"{name}\" of relation \"{}\" has type {}, not {expected_name}",
                relation.name()?,
                column.type_name
            )));
        }
        Ok(column)
    }

    /// The dimensions of a column of embeddings; `None` where they are left open.
    pub fn dimensions(&self) -> Option<usize> {
        // pgvector's type modifier is the number of dimensions.
        usize::try_from(self.modifier).ok()
    }

    /// The name of the type below all domains, that means the same whatever the search_path is.
    pub fn base_type(&self) -> String {
        let flags = pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_FORCE_QUALIFY;
        // SAFETY: the OID is of a type that exists; the result is a palloc'd C string.
        let name = unsafe { CStr::from_ptr(pg_sys::format_type_extended(self.base, -1, flags as u16)) };
        name.to_string_lossy().into_owned()
    }
}
