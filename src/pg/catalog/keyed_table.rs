//! Tables of which susx writes a column, row by row.
//!
//! A row is found again by its primary key and its version, which tells where the row lies and which transaction
//! wrote it: so nothing goes to a row that was changed meanwhile.

mod row_id;

use pgrx::{PgSqlErrorCode, pg_sys};

use super::key::{self, KeyColumn};
use crate::pg::error::{Result, SqlError};
use crate::pg::regclass::RegClass;
pub use row_id::RowId;
pub(super) use row_id::{VERSION, WRITER};

/// The relation is of a kind that has no rows of its own, or that other sessions cannot see.
#[derive(Debug, thiserror::Error)]
#[error("\"{relation}\" is {what}: expected a table of images")]
struct NoTable {
    relation: String,
    what: &'static str,
    /// What is done with tables: `embedded`.
    done: &'static str,
}

impl SqlError for NoTable {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE
    }

    fn hint(&self) -> Option<String> {
        Some(format!("Ordinary and partitioned tables, and partitions, can be {}.", self.done))
    }
}

/// A table whose rows have a key, and the column that is written.
#[derive(Debug)]
pub struct KeyedTable {
    pub(super) relation: RegClass,
    /// The name of the column that is written.
    pub(super) column: String,
    /// The table's name for messages.
    pub name: String,
    /// The same, quoted for SQL text.
    pub(super) table: String,
    pub(super) key: Vec<KeyColumn>,
}

impl KeyedTable {
    /// Checks the caller's right to read the relation, and that it is a table; `done` is what is done with it, for the
    /// error. Locks the table against being changed until the transaction ends.
    pub(super) fn check(relation: RegClass, done: &'static str) -> Result<()> {
        relation.open_for_reading()?;
        // SAFETY: the relation is locked, so it exists.
        let (kind, persistence, is_catalog) = unsafe {
            (
                pg_sys::get_rel_relkind(relation.0) as u8,
                pg_sys::get_rel_persistence(relation.0) as u8,
                pg_sys::IsCatalogRelationOid(relation.0),
            )
        };
        let what = match kind {
            _ if is_catalog => "a system catalog",
            _ if persistence == pg_sys::RELPERSISTENCE_TEMP => "a temporary table",
            pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE => return Ok(()),
            pg_sys::RELKIND_VIEW => "a view",
            pg_sys::RELKIND_MATVIEW => "a materialized view",
            pg_sys::RELKIND_FOREIGN_TABLE => "a foreign table",
            _ => "no table",
        };
        Err(NoTable { relation: relation.name()?, what, done }.into())
    }

    /// A table that was [checked](Self::check); an error if it has no key.
    pub(super) fn of(relation: RegClass, column: &str) -> Result<Self> {
        Ok(KeyedTable {
            relation,
            column: column.to_owned(),
            name: relation.name()?,
            table: relation.quoted()?,
            key: key::of(relation)?,
        })
    }

    /// Whether this table's rows can be found by keys that were read from `other`.
    pub fn has_the_key_of(&self, other: &KeyedTable) -> bool {
        self.key == other.key
    }

    /// The columns of the key of row `t`, in order.
    pub(super) fn key_columns(&self) -> Vec<String> {
        self.key.iter().map(|key| format!("t.{}", key.quoted)).collect()
    }

    /// The condition that row `t` comes after the key in the parameters.
    pub(super) fn greater(&self) -> String {
        let columns = self.key_columns();
        let values: Vec<String> =
            (1..).zip(&self.key).map(|(i, key)| format!("${i}::{}", key.base_type)).collect();
        match &self.key[..] {
            [only] => format!("{} {} {}", columns[0], only.greater, values[0]),
            [first, others @ ..] if others.iter().all(|other| other.greater == first.greater) => {
                format!("ROW({}) {} ROW({})", columns.join(", "), first.greater, values.join(", "))
            }
            // A comparison of rows has one operator for all columns. Where the operators differ, the condition is
            // written out, and the index is read from the first column's value on.
            keys => {
                let mut condition = String::new();
                for (i, key) in keys.iter().enumerate().rev() {
                    let greater = format!("{} {} {}", columns[i], key.greater, values[i]);
                    condition = match condition.is_empty() {
                        true => greater,
                        false => format!(
                            "({greater} OR {} {} {} AND {condition})",
                            columns[i], key.equal, values[i]
                        ),
                    };
                }
                format!("NOT {} {} {} AND {condition}", values[0], keys[0].greater, columns[0])
            }
        }
    }
}
