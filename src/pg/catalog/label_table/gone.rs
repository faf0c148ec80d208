//! Records of rows that are gone.

use std::collections::VecDeque;

use super::LabelTable;
use super::records::{ROW_LABEL, Record};
use crate::batches::COUNTED_ROWS;
use crate::pg::catalog::as_owner::as_owner;
use crate::pg::catalog::session_settings::{EXACT_TEXT, with_settings};
use crate::pg::catalog::write;
use crate::pg::error::Result;
use crate::pg::spi::operators::{EQ, GT};
use crate::pg::spi::{self, arg, freeing_arguments};

/// The records of a labelling, in the order of their keys, some of them in memory.
struct SortedRecords {
    labelling: i32,
    ahead: VecDeque<(String, Option<i64>)>,
    /// The key of the last record that was read.
    last: Option<String>,
    is_at_end: bool,
}

impl SortedRecords {
    /// Removes the first record.
    fn next(&mut self) -> Result<Option<(String, Option<i64>)>> {
        if self.ahead.is_empty() && !self.is_at_end {
            self.read()?;
        }
        Ok(self.ahead.pop_front())
    }

    fn read(&mut self) -> Result<()> {
        // The table's own order of keys is that of their bytes, as Rust's is.
        let sql = format!(
            "SELECT key, version FROM susx.row_label WHERE labelling {EQ} $1 AND ($2 IS NULL OR key {GT} $2) \
             ORDER BY key LIMIT $3"
        );
        let args = [arg(self.labelling), arg(self.last.clone()), arg(COUNTED_ROWS)];
        as_owner(ROW_LABEL, || {
            spi::read(&sql, &args, |row| {
                self.ahead.push_back((row.required(1)?, row.get(2)?));
                Ok(true)
            })
        })?;
        self.is_at_end = (self.ahead.len() as i64) < COUNTED_ROWS;
        self.last = self.ahead.back().map(|(key, _)| key.clone());
        Ok(())
    }
}

impl LabelTable {
    /// Deletes the records of rows that are gone, unless there are only those of the `seen` rows. The caller must see all
    /// rows.
    pub fn forget_gone(&self, labelling: i32, seen: u64) -> Result<()> {
        if Record::count(labelling)? <= seen {
            return Ok(());
        }
        // One statement cannot read both: the table as the caller, and the records as their owner. So two sorted lists
        // are compared, both as the same snapshot shows them.
        let mut records = SortedRecords { labelling, ahead: VecDeque::new(), last: None, is_at_end: false };
        let mut record = records.next()?;
        let mut gone = Vec::new();
        let sql = format!(
            "SELECT {} COLLATE \"pg_catalog\".\"C\" FROM {} t ORDER BY 1",
            self.key_text(),
            self.table
        );
        with_settings(&EXACT_TEXT, || {
            spi::read(&sql, &[], |row| {
                let key: String = row.required(1)?;
                while let Some(found) = record.take() {
                    if found.0 >= key {
                        record = if found.0 == key { records.next()? } else { Some(found) };
                        break;
                    }
                    gone.push(found);
                    delete_some(labelling, &mut gone)?;
                    record = records.next()?;
                }
                Ok(record.is_some())
            })
        })?;
        while let Some(found) = record.take() {
            gone.push(found);
            delete_some(labelling, &mut gone)?;
            record = records.next()?;
        }
        delete(labelling, &mut gone)
    }
}

fn delete_some(labelling: i32, gone: &mut Vec<(String, Option<i64>)>) -> Result<()> {
    if (gone.len() as i64) < COUNTED_ROWS { Ok(()) } else { delete(labelling, gone) }
}

/// Deletes records, unless they were written again since they were read.
fn delete(labelling: i32, gone: &mut Vec<(String, Option<i64>)>) -> Result<()> {
    let (keys, versions): (Vec<String>, Vec<Option<i64>>) = std::mem::take(gone).into_iter().unzip();
    if keys.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "DELETE FROM susx.row_label r USING ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) AS u (key, version) \
         WHERE r.labelling {EQ} $1 AND r.key {EQ} u.key AND r.version IS NOT DISTINCT FROM u.version"
    );
    freeing_arguments(|| {
        let args = [arg(labelling), arg(keys), arg(versions)];
        as_owner(ROW_LABEL, || write(&sql, &args))
    })?;
    Ok(())
}
