//! `susx.row_label`: what susx wrote to a row last, and what it was made of.
//!
//! Only the extension reads or writes this table. What follows is called only for rows that the caller has read, or has
//! updated, with the rights and the row-level security of the table of images.

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;

use crate::pg::catalog::as_owner::as_owner;
use crate::pg::catalog::write;
use crate::pg::error::Result;
use crate::pg::spi::operators::EQ;
use crate::pg::spi::{self, Access, arg, first, freeing_arguments};

/// The name of the table.
pub(super) const ROW_LABEL: &CStr = c"row_label";

/// What susx wrote to a row last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// A digest of the classifier and the row's vectors; `None` for a row whose label was taken away with its embedding.
    pub version: Option<i64>,
    pub label: Option<String>,
    /// Whether susx.correct was called for the row.
    pub is_corrected: bool,
}

/// A record to write, by the key as text.
#[derive(Clone, Debug)]
pub struct NewRecord {
    pub key: String,
    pub record: Record,
}

impl Record {
    /// The records of rows, by their keys as text.
    pub fn of_rows<'r>(
        labelling: i32,
        keys: impl Iterator<Item = &'r str>,
        access: Access,
    ) -> Result<HashMap<String, Record>> {
        let keys: Vec<String> = keys.map(str::to_owned).collect();
        let mut found = HashMap::with_capacity(keys.len());
        let sql = format!(
            "SELECT key, version, label, is_corrected FROM susx.row_label WHERE labelling {EQ} $1 AND key {EQ} ANY ($2)"
        );
        freeing_arguments(|| {
            let args = [arg(labelling), arg(keys)];
            as_owner(ROW_LABEL, || {
                spi::read_in(access, &sql, &args, |row| {
                    let record =
                        Record { version: row.get(2)?, label: row.get(3)?, is_corrected: row.required(4)? };
                    found.insert(row.required(1)?, record);
                    Ok(true)
                })
            })
        })?;
        Ok(found)
    }

    /// Writes records of rows that the caller has locked.
    pub fn write(labelling: i32, records: Vec<NewRecord>) -> Result<()> {
        let (mut keys, mut versions, mut labels, mut corrected) = (vec![], vec![], vec![], vec![]);
        let mut seen = HashSet::with_capacity(records.len());
        for NewRecord { key, record } in records {
            // A table with children may have the same key twice.
            if seen.insert(key.clone()) {
                keys.push(key);
                versions.push(record.version);
                labels.push(record.label);
                corrected.push(record.is_corrected);
            }
        }
        if keys.is_empty() {
            return Ok(());
        }
        let sql = "INSERT INTO susx.row_label (labelling, key, version, label, is_corrected) \
             SELECT $1, u.key, u.version, u.label, u.is_corrected FROM ROWS FROM (pg_catalog.unnest($2), \
             pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5)) \
             AS u (key, version, label, is_corrected) \
             ON CONFLICT (labelling, key) DO UPDATE SET version = excluded.version, label = excluded.label, \
             is_corrected = excluded.is_corrected";
        freeing_arguments(|| {
            let args = [arg(labelling), arg(keys), arg(versions), arg(labels), arg(corrected)];
            as_owner(ROW_LABEL, || write(sql, &args))
        })?;
        Ok(())
    }

    /// The number of records of a labelling.
    pub(super) fn count(labelling: i32) -> Result<u64> {
        let sql = format!("SELECT pg_catalog.count(*) FROM susx.row_label WHERE labelling {EQ} $1");
        let found: Option<i64> = as_owner(ROW_LABEL, || first(&sql, &[arg(labelling)]))?;
        Ok(found.map_or(0, i64::unsigned_abs))
    }
}
