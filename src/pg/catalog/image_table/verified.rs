//! Which rows of a table are known to have the embedding of their own image.
//!
//! A changed row gets the number of the transaction that changed it. Once all rows of a table have been checked, susx
//! stores the number of the oldest transaction that was running when the check began. Rows with a lower number have not
//! changed since, and need no other check. So only one number is stored for each table, and no image is read for a
//! comparison.

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::hash::{DefaultHasher, Hash, Hasher};

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use super::ImageTable;
use crate::pg::catalog::as_owner::as_owner;
use crate::pg::catalog::write;
use crate::pg::error::{Error, Result};
use crate::pg::spi::operators::EQ;
use crate::pg::spi::{self, arg, first};

/// The table of these numbers. Only the extension reads or writes it.
const REFRESHED_COLUMN: &CStr = c"refreshed_column";

/// The numbers of transactions that PostgreSQL gives to rows which no transaction of today has written.
const FIRST_NORMAL: u32 = 3;

/// Transactions after which a stored number is no longer meaningful: the numbers of rows have 32 bits.
const MOST_TRANSACTIONS: u64 = 1 << 30;

/// Rows that need no check.
#[derive(Debug, Default)]
pub struct Verified {
    /// By table: rows of transactions before this one. It has 64 bits.
    before: HashMap<pg_sys::Oid, u64>,
    /// Transactions of this call, which have written nothing but embeddings.
    own: HashSet<u32>,
    /// Rows that could not be checked: digests of their keys.
    pending: HashSet<u64>,
}

/// The state of a table before its rows are looked at.
#[derive(Clone, Debug)]
pub struct Mark {
    /// The table, or those that are its parts.
    tables: Vec<pg_sys::Oid>,
    /// The oldest transaction that is running.
    oldest: u64,
}

impl Verified {
    /// Whether the row of a table that this transaction has written needs no check.
    pub(super) fn includes(&self, table: pg_sys::Oid, writer: u32, key: &str) -> bool {
        let is_before = |&oldest: &u64| {
            // The lower 32 bits are compared in a circle, as PostgreSQL does.
            writer < FIRST_NORMAL || (writer.wrapping_sub(oldest as u32)).cast_signed() < 0
        };
        (self.own.contains(&writer) || self.before.get(&table).is_some_and(is_before))
            && (self.pending.is_empty() || !self.pending.contains(&digest(key)))
    }

    /// Adds a transaction of this call.
    pub fn add_own(&mut self, transaction: Option<u32>) {
        self.own.extend(transaction);
    }

    /// All rows that were there at the mark have been checked, except for those of these keys.
    pub fn checked<'k>(&mut self, mark: &Mark, except: impl Iterator<Item = &'k str>) {
        self.before.extend(mark.tables.iter().map(|&table| (table, mark.oldest)));
        self.pending = except.map(digest).collect();
    }
}

fn digest(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

impl ImageTable {
    /// What earlier calls have checked.
    pub fn verified(&self) -> Result<Verified> {
        let sql = format!(
            "SELECT r.relation::pg_catalog.oid, r.checked_before::pg_catalog.text FROM susx.refreshed_column r \
             JOIN pg_catalog.pg_attribute i ON i.attrelid {EQ} r.relation AND i.attnum {EQ} r.image_column \
             JOIN pg_catalog.pg_attribute e ON e.attrelid {EQ} r.relation AND e.attnum {EQ} r.embedding_column \
             WHERE i.attname {EQ} $2::pg_catalog.name AND e.attname {EQ} $3::pg_catalog.name \
             AND r.relation {EQ} ANY (ARRAY({}))",
            parts()
        );
        let newest = self.mark()?.oldest;
        let mut verified = Verified::default();
        as_owner(REFRESHED_COLUMN, || {
            spi::read(&sql, &self.columns_args(), |row| {
                let (table, before) = (row.required(1)?, number(&row.required::<String>(2)?)?);
                if newest.checked_sub(before).is_some_and(|age| age < MOST_TRANSACTIONS) {
                    verified.before.insert(table, before);
                }
                Ok(true)
            })
        })?;
        Ok(verified)
    }

    /// The state of the table now.
    pub fn mark(&self) -> Result<Mark> {
        // The parts come first: one that is added later may have old rows that have not been checked.
        let mut tables = Vec::new();
        spi::read(&parts(), &[arg(self.relation.0)], |row| {
            tables.push(row.required(1)?);
            Ok(true)
        })?;
        let sql = "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::pg_catalog.text";
        let oldest: Option<String> = first(sql, &[])?;
        let oldest = oldest.ok_or_else(|| Error::internal("pg_snapshot_xmin returned NULL"))?;
        Ok(Mark { tables, oldest: number(&oldest)? })
    }

    /// Stores that all rows that existed at the mark have the embedding of their own image. Not for a caller who may
    /// not see all rows, nor for images that PostgreSQL computes.
    pub fn store_checked(&self, mark: &Mark) -> Result<()> {
        if self.relation.has_row_security() || self.is_image_computed {
            return Ok(());
        }
        let sql = format!(
            "INSERT INTO susx.refreshed_column (relation, image_column, embedding_column, checked_before) \
             SELECT i.attrelid, i.attnum, e.attnum, $4::pg_catalog.xid8 FROM pg_catalog.pg_attribute i \
             JOIN pg_catalog.pg_attribute e ON e.attrelid {EQ} i.attrelid \
             WHERE i.attname {EQ} $2::pg_catalog.name AND e.attname {EQ} $3::pg_catalog.name \
             AND i.attrelid {EQ} ANY ($1) ORDER BY i.attrelid \
             ON CONFLICT (relation, image_column, embedding_column) \
             DO UPDATE SET checked_before = excluded.checked_before"
        );
        let mut args = self.columns_args();
        args[0] = arg(mark.tables.clone());
        args.push(arg(mark.oldest.to_string()));
        as_owner(REFRESHED_COLUMN, || write(&sql, &args))?;
        Ok(())
    }

    /// The table, and the names of both columns.
    fn columns_args<'a>(&self) -> Vec<DatumWithOid<'a>> {
        vec![arg(self.relation.0), arg(self.image_name.clone()), arg(self.column.clone())]
    }
}

/// The query of the tables with rows among the parts of the table in the first argument, and itself.
fn parts() -> String {
    format!(
        "WITH RECURSIVE family AS (SELECT $1 AS oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i \
         JOIN family f ON i.inhparent {EQ} f.oid) \
         SELECT c.oid FROM family f JOIN pg_catalog.pg_class c ON c.oid {EQ} f.oid WHERE c.relkind {EQ} 'r'"
    )
}

/// The number of a transaction, of type xid8.
fn number(text: &str) -> Result<u64> {
    text.parse().map_err(Error::internal)
}

/// The current transaction, if it has written anything.
pub fn current_transaction() -> Option<u32> {
    // SAFETY: reads a variable of this process.
    let found = unsafe { pg_sys::GetTopTransactionIdIfAny() };
    (found != pg_sys::InvalidTransactionId).then(|| found.into_inner())
}
