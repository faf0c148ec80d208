//! Tables in which susx writes a column, row by row.
//!
//! A row is found again by its primary key and its version, which tells where the row lies and which transaction wrote
//! it. So nothing goes to a row that has changed in the meantime.

mod family;
mod row_id;
mod written;

use std::ffi::CStr;

use pgrx::spi::quote_literal;
use pgrx::{PgSqlErrorCode, pg_sys};

use super::citus;
use super::column::Column;
use super::key::{self, KeyColumn};
use crate::pg::error::{Result, SqlError};
use crate::pg::open::OpenRelation;
use crate::pg::regclass::RegClass;
pub use row_id::RowId;
pub(super) use row_id::{VERSION, WRITER};
pub use written::Written;
pub(super) use written::outcome;

/// The relation is of a kind that stores no rows, or that other sessions cannot see.
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
        Some(match self.what {
            "a view" => format!("Use the table that the view reads: its rows can be {}.", self.done),
            "a foreign table" => {
                format!("Call the function in the database that has the table, where its rows can be {}.", self.done)
            }
            // Nothing would delete the records about it, because no event trigger is fired at a session's end.
            "a temporary table" if self.done == "embedded" => {
                "Embed its rows with UPDATE … SET embedding = susx.embed_image(image), or use an UNLOGGED table."
                    .to_owned()
            }
            _ => format!("Ordinary and partitioned tables, and partitions, can be {}.", self.done),
        })
    }
}

/// The table is one that an extension keeps in another way, in which rows cannot be locked and updated one by one.
#[derive(Debug, thiserror::Error)]
enum OtherStorage {
    #[error("the rows of \"{relation}\" are in several shards of Citus, and are {done} shard by shard")]
    Shards { relation: String, quoted: String, done: &'static str },
    #[error("\"{relation}\" is a columnar table, whose rows cannot be updated")]
    Columnar { relation: String, done: &'static str },
}

impl SqlError for OtherStorage {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            OtherStorage::Shards { quoted, done, .. } => {
                let call = if *done == "embedded" {
                    "susx.embed_table('%s')"
                } else {
                    "susx.label_table('%s', 'classifier')"
                };
                let table = quote_literal(quoted);
                format!(
                    "SELECT * FROM run_command_on_shards({table}, $$CALL {call}$$); add the other arguments of this call."
                )
            }
            OtherStorage::Columnar { done, .. } => {
                format!("Use a table with the access method heap while its rows are being {done}.")
            }
        })
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
    /// Checks that the caller may read columns of the relation, and that it is a table; `done` is what is done with it, for
    /// the error. Locks the table against being changed until the transaction ends.
    pub(super) fn check(relation: RegClass, done: &'static str) -> Result<()> {
        relation.open_for_reading_columns()?;
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
            pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE => {
                return Self::check_storage(relation, done);
            }
            pg_sys::RELKIND_VIEW => "a view",
            pg_sys::RELKIND_MATVIEW => "a materialized view",
            pg_sys::RELKIND_FOREIGN_TABLE => "a foreign table",
            _ => "no table",
        };
        Err(NoTable { relation: relation.name()?, what, done }.into())
    }

    /// An error if the rows are kept in a way that no row can be locked and updated by itself.
    fn check_storage(relation: RegClass, done: &'static str) -> Result<()> {
        if is_columnar(relation)? {
            return Err(OtherStorage::Columnar { relation: relation.name()?, done }.into());
        }
        if citus::is_distributed(relation)? {
            let quoted = relation.quoted()?;
            return Err(OtherStorage::Shards { relation: relation.name()?, quoted, done }.into());
        }
        Ok(())
    }

    /// A table that was [checked](Self::check); an error if it has no key, or if the caller may not read the key and the
    /// `columns`.
    pub(super) fn of(relation: RegClass, column: &str, columns: &[&Column]) -> Result<Self> {
        let table = KeyedTable {
            relation,
            column: column.to_owned(),
            name: relation.name()?,
            table: relation.quoted()?,
            key: key::of(relation)?,
        };
        let mut read: Vec<(String, i32)> =
            table.key.iter().map(|key| (key.quoted.clone(), i32::from(key.number))).collect();
        for column in columns {
            let column = (column.quoted.clone(), i32::from(column.number));
            if !read.contains(&column) {
                read.push(column);
            }
        }
        // By these, susx tells whether a row has changed.
        let system = [
            ("ctid", pg_sys::SelfItemPointerAttributeNumber),
            ("xmin", pg_sys::MinTransactionIdAttributeNumber),
            ("tableoid", pg_sys::TableOidAttributeNumber),
        ];
        read.extend(system.map(|(name, number)| (name.to_owned(), number)));
        if relation.has_row_security() {
            read.push(("xmax".to_owned(), pg_sys::MaxTransactionIdAttributeNumber));
        }
        relation.check_columns(&read)?;
        Ok(table)
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

/// Whether a table has the access method of Citus that stores columns.
fn is_columnar(relation: RegClass) -> Result<bool> {
    let open = OpenRelation::locked(relation)?;
    // SAFETY: the relation is open.
    let method = unsafe { (*(*open.0).rd_rel).relam };
    if method == pg_sys::HEAP_TABLE_AM_OID || method == pg_sys::Oid::INVALID {
        return Ok(false);
    }
    // SAFETY: for any OID, returns NULL or a palloc'd C string.
    let name = unsafe { pg_sys::get_am_name(method) };
    // SAFETY: as above.
    Ok(!name.is_null() && unsafe { CStr::from_ptr(name) } == c"columnar")
}
