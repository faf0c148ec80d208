//! The primary key of a table, by which its rows are found again and put in order.

use std::ffi::CStr;

use pgrx::pg_sys::SysCacheIdentifier::{INDEXRELID, OPEROID};
use pgrx::spi::quote_identifier;
use pgrx::{PgSqlErrorCode, pg_sys};

use super::column::Column;
use super::syscache;
use crate::pg::error::{Result, SqlError};
use crate::pg::open::OpenRelation;
use crate::pg::regclass::RegClass;

/// The relation has no primary key to identify rows by.
#[derive(Debug, thiserror::Error)]
#[error("relation \"{0}\" has no primary key")]
struct NoPrimaryKey(String);

impl SqlError for NoPrimaryKey {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
    }

    fn hint(&self) -> Option<String> {
        let NoPrimaryKey(relation) = self;
        Some(format!(
            "susx identifies rows by their primary key: ALTER TABLE {relation} ADD PRIMARY KEY (...)."
        ))
    }
}

/// A column of the primary key.
#[derive(Debug, PartialEq)]
pub struct KeyColumn {
    pub number: i16,
    pub quoted: String,
    pub base_type: String,
    /// The operators of the key's index, qualified.
    pub equal: String,
    pub greater: String,
}

/// The type whose text is read in the currency of the session.
pub(super) const MONEY: &str = "pg_catalog.money";

/// The SQL expression of a row's key as text: what people see, and how susx.errors identifies the row.
pub(super) fn text(row: &str, key: &[KeyColumn]) -> String {
    let columns: Vec<String> = key.iter().map(|key| format!("{row}.{}", key.quoted)).collect();
    match &columns[..] {
        [only] => format!("pg_catalog.concat({only})"),
        _ => format!("ROW({})::pg_catalog.text", columns.join(", ")),
    }
}

/// The columns of a table's primary key, in its order; an error if there is none, or one whose index has no order. The
/// table is locked. Everything comes from PostgreSQL's caches and costs no query.
pub fn of(relation: RegClass) -> Result<Vec<KeyColumn>> {
    let Some(columns) = primary_index(relation)?.as_ref().and_then(index_columns) else {
        return Err(NoPrimaryKey(relation.name()?).into());
    };
    let key_column = |IndexColumn { number, equal, greater }| {
        let column = Column::numbered(relation, number)?;
        Ok(KeyColumn { number, base_type: column.base_type(), quoted: column.quoted, equal, greater })
    };
    columns.into_iter().map(key_column).collect()
}

/// The index of the primary key; `None` if there is no valid one.
fn primary_index(relation: RegClass) -> Result<Option<OpenRelation>> {
    let table = OpenRelation::locked(relation)?;
    let is_primary = |index: &pg_sys::FormData_pg_index| index.indisprimary && index.indisvalid;
    // SAFETY: the table is open, and so its list is one of OIDs. The cache's key is the OID of an index, and its rows
    // are those of pg_index. An index that is found is opened under its own lock.
    unsafe {
        let list = pg_sys::RelationGetIndexList(table.0);
        let Some(indexes) = list.as_ref() else { return Ok(None) };
        let primary = (0..usize::try_from(indexes.length).unwrap_or(0))
            .map(|i| (*indexes.elements.add(i)).oid_value)
            .find(|&index| syscache::read(INDEXRELID, index, is_primary).unwrap_or(false));
        pg_sys::list_free(list);
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        Ok(primary.map(|index| OpenRelation(pg_sys::index_open(index, lock))))
    }
}

/// A key column of an index: its number in the table, and its operators, qualified.
struct IndexColumn {
    number: i16,
    equal: String,
    greater: String,
}

/// The key columns of an index; `None` if it is not a B-tree, which alone has an order.
fn index_columns(index: &OpenRelation) -> Option<Vec<IndexColumn>> {
    // SAFETY: the index is open. Its arrays have an element for each column of the key.
    unsafe {
        let index = &*index.0;
        if (*index.rd_rel).relam != pg_sys::BTREE_AM_OID {
            return None;
        }
        let form = &*index.rd_index;
        let count = usize::try_from(form.indnkeyatts).unwrap_or(0);
        let numbers = form.indkey.values.as_slice(count);
        let column = |(i, &number): (usize, &i16)| {
            let (family, input) = (*index.rd_opfamily.add(i), *index.rd_opcintype.add(i));
            let operator =
                |strategy: u32| operator(pg_sys::get_opfamily_member(family, input, input, strategy as i16));
            Some(IndexColumn {
                number,
                equal: operator(pg_sys::BTEqualStrategyNumber)?,
                greater: operator(pg_sys::BTGreaterStrategyNumber)?,
            })
        };
        numbers.iter().enumerate().map(column).collect()
    }
}

/// An operator by its qualified name, for SQL text; `None` if it does not exist.
fn operator(oid: pg_sys::Oid) -> Option<String> {
    let qualified = |form: &pg_sys::FormData_pg_operator| {
        // SAFETY: a name ends with a NUL; the namespace's is NULL or a palloc'd C string.
        unsafe {
            let schema = pg_sys::get_namespace_name(form.oprnamespace);
            if schema.is_null() {
                return None;
            }
            let (schema, name) = (CStr::from_ptr(schema), CStr::from_ptr(form.oprname.data.as_ptr()));
            Some(format!(
                "OPERATOR({}.{})",
                quote_identifier(schema.to_string_lossy()),
                name.to_string_lossy()
            ))
        }
    };
    // SAFETY: the cache's key is the OID of an operator, and its rows are those of pg_operator.
    unsafe { syscache::read(OPEROID, oid, qualified) }.flatten()
}
