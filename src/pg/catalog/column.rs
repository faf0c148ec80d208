//! A column that the caller has named.

use std::ffi::CStr;

use pgrx::PgTupleDesc;
use pgrx::pg_sys;
use pgrx::pg_sys::SysCacheIdentifier::TYPEOID;
use pgrx::spi::quote_identifier;

use super::{syscache, vector_hint};
use crate::pg::column_error::ColumnError;
use crate::pg::encoding;
use crate::pg::error::{Error, Result};
use crate::pg::extensions::{is_vector_type, vector_type};
use crate::pg::open::OpenRelation;
use crate::pg::regclass::RegClass;
use crate::pg::relation_error::RelationError;
use crate::pg::types::{base_type, qualified_type_name};

/// The types of columns that take one label per row.
const LABELS: [pg_sys::Oid; 2] = [pg_sys::TEXTOID, pg_sys::VARCHAROID];
/// Those of columns that take any number.
const TAGS: [pg_sys::Oid; 2] = [pg_sys::TEXTARRAYOID, pg_sys::VARCHARARRAYOID];

/// How pg_attribute marks a generated column that is not stored.
const VIRTUAL: u8 = b'v';

/// A column of a table, quoted for SQL text.
///
/// It is taken from PostgreSQL's cache of relations, which costs no query: `embed_table` looks its columns up in every
/// transaction.
#[derive(Debug)]
pub struct Column {
    pub number: i16,
    pub quoted: String,
    pub type_name: String,
    /// Whether the type is one of pg_catalog's.
    pub is_built_in: bool,
    /// The type under all domains, and its modifier.
    pub(super) base: pg_sys::Oid,
    modifier: i32,
    /// Whether the caller may update it.
    pub is_writable: bool,
    /// Whether PostgreSQL computes it.
    pub is_generated: bool,
    /// Whether it does so when the column is read (from version 18 on).
    pub is_virtual: bool,
}

impl Column {
    /// The column of that name. The relation is locked.
    pub fn open(relation: RegClass, name: &str) -> Result<Self> {
        match Self::find(relation, |column| attribute_name(column).to_bytes() == name.as_bytes())? {
            Some(column) => Ok(column),
            None => Err(ColumnError::NoColumn { relation: relation.name()?, column: name.to_owned() }.into()),
        }
    }

    /// Whether there is a column of that name. The relation is locked.
    pub fn exists(relation: RegClass, name: &str) -> Result<bool> {
        Ok(Self::find(relation, |column| attribute_name(column).to_bytes() == name.as_bytes())?.is_some())
    }

    /// Whether there is a column of that name whose type is vector. The relation is locked.
    pub fn holds_vectors(relation: RegClass, name: &str) -> Result<bool> {
        let found = Self::find(relation, |column| attribute_name(column).to_bytes() == name.as_bytes())?;
        Ok(found.is_some_and(|column| column.base == vector_type()))
    }

    /// The column of that number. The relation is locked.
    pub fn numbered(relation: RegClass, number: i16) -> Result<Self> {
        Self::find(relation, |column| column.attnum == number)?
            .ok_or_else(|| Error::internal(format_args!("a relation has no column {number}")))
    }

    fn find(
        relation: RegClass,
        is_wanted: impl Fn(&pg_sys::FormData_pg_attribute) -> bool,
    ) -> Result<Option<Self>> {
        let open = OpenRelation::locked(relation)?;
        // SAFETY: the relation is open, so its descriptor is valid.
        let columns = unsafe { PgTupleDesc::from_pg_unchecked((*open.0).rd_att) };
        let found = columns.iter().find(|column| !column.attisdropped && is_wanted(column));
        found.map(|column| Self::of(relation, column)).transpose()
    }

    fn of(relation: RegClass, column: &pg_sys::FormData_pg_attribute) -> Result<Self> {
        let mut modifier = column.atttypmod;
        // SAFETY: the OID is of a type that exists. The results are palloc'd C strings.
        let (base, type_name) = unsafe {
            let name = pg_sys::format_type_with_typemod(column.atttypid, modifier);
            let base = pg_sys::getBaseTypeAndTypmod(column.atttypid, &mut modifier);
            (base, CStr::from_ptr(name).to_string_lossy().into_owned())
        };
        Ok(Column {
            number: column.attnum,
            quoted: quote_identifier(encoding::text(attribute_name(column).to_bytes())?),
            type_name,
            is_built_in: is_built_in(column.atttypid),
            base,
            modifier,
            is_writable: is_writable(relation, column.attnum),
            is_virtual: column.attgenerated as u8 == VIRTUAL,
            is_generated: column.attgenerated != 0
                || column.attidentity as u8 == pg_sys::ATTRIBUTE_IDENTITY_ALWAYS,
        })
    }

    /// A column of embeddings; an error if it is of another type than vector or halfvec.
    pub fn of_vectors(relation: RegClass, name: &str) -> Result<Self> {
        if !Self::exists(relation, name)? {
            let error =
                Error::from(ColumnError::NoColumn { relation: relation.name()?, column: name.to_owned() });
            return Err(error.with_hint(vector_hint::of_missing(relation, name)?));
        }
        let column = Self::open(relation, name)?;
        if is_vector_type(column.base) {
            return Ok(column);
        }
        let error = column.mismatch(relation, name, "vector")?;
        Err(match vector_hint::of_column(relation, &column)? {
            Some(hint) => error.with_hint(hint),
            None => error,
        })
    }

    /// The names of a relation's columns of embeddings, in their order. The relation is locked.
    pub(super) fn names_of_vectors(relation: RegClass) -> Result<Vec<String>> {
        Self::each_of_vectors(relation, |column| {
            Ok(encoding::text(attribute_name(column).to_bytes())?.to_owned())
        })
    }

    /// The same, quoted.
    pub fn all_vectors(relation: RegClass) -> Result<Vec<String>> {
        Self::each_of_vectors(relation, |column| Ok(Self::of(relation, column)?.quoted))
    }

    /// What `tell` returns for each column whose type is vector or halfvec.
    fn each_of_vectors<T>(
        relation: RegClass,
        tell: impl Fn(&pg_sys::FormData_pg_attribute) -> Result<T>,
    ) -> Result<Vec<T>> {
        let open = OpenRelation::locked(relation)?;
        // SAFETY: the relation is open, so its descriptor is valid; the OIDs are of types that exist.
        let columns = unsafe { PgTupleDesc::from_pg_unchecked((*open.0).rd_att) };
        let holds_vectors = |column: &&pg_sys::FormData_pg_attribute| {
            !column.attisdropped && is_vector_type(base_type(column.atttypid))
        };
        columns.iter().filter(holds_vectors).map(tell).collect()
    }

    /// The OID of the type under all domains.
    pub(super) fn base_oid(&self) -> pg_sys::Oid {
        self.base
    }

    /// A column of image files; an error if it is of another type than bytea.
    pub fn of_images(relation: RegClass, name: &str) -> Result<Self> {
        Self::of_type(relation, name, pg_sys::BYTEAOID, "bytea")
    }

    fn of_type(relation: RegClass, name: &str, expected: pg_sys::Oid, expected_name: &str) -> Result<Self> {
        let column = Self::open(relation, name)?;
        if column.base != expected {
            return Err(column.mismatch(relation, name, expected_name)?);
        }
        Ok(column)
    }

    /// The error that this column has another type.
    fn mismatch(&self, relation: RegClass, name: &str, expected: &str) -> Result<Error> {
        Ok(Error::argument(format!(
            "column \"{name}\" of relation \"{}\" has type {}, not {expected}",
            relation.name()?,
            self.type_name
        )))
    }

    /// An error if the column is a generated one, or if the caller may not update it.
    pub fn check_writable(&self, relation: RegClass, name: &str) -> Result<()> {
        let table = relation.name()?;
        if self.is_generated {
            return Err(Error::argument(format!(
                "column \"{name}\" of relation \"{table}\" is a generated column"
            )));
        }
        if !self.is_writable {
            return Err(RelationError::Permission(table).into());
        }
        Ok(())
    }

    /// A column that takes labels, or tags; an error if it is of another type than text or varchar, or an array of these.
    pub fn of_labels(relation: RegClass, name: &str) -> Result<Self> {
        let types = [&LABELS[..], &TAGS].concat();
        Self::of_any_type(relation, name, &types, "text or varchar, or text[] for tags")
    }

    /// Whether the column takes tags, as an array.
    pub fn holds_tags(&self) -> bool {
        TAGS.contains(&self.base)
    }

    /// A column that takes probabilities; an error if it is of another type than real or double precision.
    pub fn of_numbers(relation: RegClass, name: &str) -> Result<Self> {
        Self::of_any_type(relation, name, &[pg_sys::FLOAT4OID, pg_sys::FLOAT8OID], "real or double precision")
    }

    fn of_any_type(relation: RegClass, name: &str, types: &[pg_sys::Oid], expected: &str) -> Result<Self> {
        let column = Self::open(relation, name)?;
        if types.contains(&column.base) {
            return Ok(column);
        }
        let (relation, column, found) = (relation.name()?, name.to_owned(), column.type_name);
        Err(ColumnError::TargetType { relation, column, found, expected: expected.to_owned() }.into())
    }

    /// The dimensions of a column of embeddings; `None` if its type does not fix them.
    pub fn dimensions(&self) -> Option<usize> {
        // pgvector's type modifier is the number of dimensions, or -1.
        usize::try_from(self.modifier).ok()
    }

    /// The qualified name of the type under all domains.
    pub fn base_type(&self) -> String {
        qualified_type_name(self.base)
    }
}

fn attribute_name(column: &pg_sys::FormData_pg_attribute) -> &CStr {
    // SAFETY: a name ends with a NUL.
    unsafe { CStr::from_ptr(column.attname.data.as_ptr()) }
}

fn is_built_in(type_oid: pg_sys::Oid) -> bool {
    let is_in_pg_catalog = |form: &pg_sys::FormData_pg_type| {
        form.typnamespace == pg_sys::Oid::from(pg_sys::PG_CATALOG_NAMESPACE)
    };
    // SAFETY: the cache's key is the OID of a type, and its rows are those of pg_type.
    unsafe { syscache::read(TYPEOID, type_oid, is_in_pg_catalog) }.unwrap_or(false)
}

/// Whether the caller may update a column: by a right to it, or to the whole relation.
fn is_writable(relation: RegClass, column: i16) -> bool {
    let update = pg_sys::ACL_UPDATE as pg_sys::AclMode;
    // SAFETY: looks up rights to a relation that exists.
    unsafe {
        let user = pg_sys::GetUserId();
        pg_sys::pg_class_aclcheck(relation.0, user, update) == pg_sys::AclResult::ACLCHECK_OK
            || pg_sys::pg_attribute_aclcheck(relation.0, column, user, update)
                == pg_sys::AclResult::ACLCHECK_OK
    }
}
