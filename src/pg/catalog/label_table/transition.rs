//! The rows that a statement wrote and whose labels may be out of date, found through its trigger's transition tables.

use pgrx::PgTrigger;
use pgrx::spi::quote_identifier;

use super::{LabelRow, LabelTable};
use crate::batches::FETCHED_ROWS;
use crate::pg::catalog::column::Column;
use crate::pg::catalog::session_settings::{EXACT_TEXT, with_settings};
use crate::pg::catalog::transition_rows::TransitionTables;
use crate::pg::error::Result;
use crate::pg::spi::{Row, TriggerCursor};

/// Whether the statement wrote any row without a label, or with other vectors. Unless the likeness vectors are `named`, any
/// column of vectors may be theirs: which one it is depends on the classifier.
pub fn may_have_outdated(
    table: &LabelTable,
    trigger: &PgTrigger,
    tables: TransitionTables,
    named: bool,
) -> Result<bool> {
    let compared = if named { table.vectors() } else { Column::all_vectors(table.relation)? };
    let has_none = format!("t.{} IS NULL", table.label);
    let mut cursor = TriggerCursor::open(trigger, &rows_of(table, tables, &[has_none], &compared))?;
    let before = tables.old.map(|_| Before { first: 2, vectors: compared.len() });
    let (mut found, mut has_more) = (false, true);
    while has_more && !found {
        has_more = cursor.fetch(FETCHED_ROWS, |row| {
            found = match &before {
                _ if row.required(1)? => true,
                Some(before) => before.differs(row)?,
                None => false,
            };
            Ok(!found)
        })?;
    }
    Ok(found)
}

/// The statement's rows as they are now, with some columns of row `t`; then, after an UPDATE, what [`Before`] reads.
fn rows_of(table: &LabelTable, tables: TransitionTables, columns: &[String], compared: &[String]) -> String {
    let mut columns = columns.to_vec();
    let new = quote_identifier(tables.new);
    let mut from = format!("{new} n JOIN {} t ON {}", table.table, table.same_key("t", "n"));
    if let Some(old) = tables.old.map(quote_identifier) {
        from += &format!(" LEFT JOIN {old} o ON {}", table.same_key("o", "n"));
        columns.push(format!("o.{} IS NOT NULL", table.key[0].quoted));
        for vectors in compared {
            columns.push(format!("n.{vectors}"));
            columns.push(format!("o.{vectors}"));
        }
    }
    format!("SELECT {} FROM {from}", columns.join(", "))
}

/// Where a row has what it was before an UPDATE: whether the row was there, and pairs of vectors, new and old.
#[derive(Clone, Copy, Debug)]
struct Before {
    first: i32,
    vectors: usize,
}

impl Before {
    /// Whether the row has other vectors. A row whose key was changed has no known former ones.
    fn differs(self, row: &Row) -> Result<bool> {
        if !row.required::<bool>(self.first)? {
            return Ok(true);
        }
        for pair in (self.first + 1..).step_by(2).take(self.vectors) {
            if !row.has_same_vector(pair, pair + 1)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Reads the rows of a statement that have no label, or other vectors than before it.
///
/// Their present state comes from the table itself: another trigger may have changed them after the statement.
pub struct LabelTransitionRows<'a> {
    table: &'a LabelTable,
    before: Option<Before>,
    cursor: TriggerCursor,
}

impl<'a> LabelTransitionRows<'a> {
    pub fn open(table: &'a LabelTable, trigger: &PgTrigger, tables: TransitionTables) -> Result<Self> {
        let compared = table.vectors();
        let rows = rows_of(table, tables, &[table.selected()], &compared);
        let cursor =
            TriggerCursor::open(trigger, &format!("{rows} ORDER BY {}", table.key_columns().join(", ")))?;
        let before = tables.old.map(|_| Before { first: table.next_column(), vectors: compared.len() });
        Ok(LabelTransitionRows { table, before, cursor })
    }

    /// The next rows, up to `most`, or fewer once their vectors have `most_bytes`. None at the end.
    pub fn next(&mut self, most: usize, most_bytes: usize) -> Result<Vec<LabelRow>> {
        let LabelTransitionRows { table, before, cursor } = self;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        // Only reading runs with these settings. Writing fires triggers, which see the caller's.
        with_settings(&EXACT_TEXT, || {
            let mut has_more = true;
            while has_more && rows.len() < most && bytes < most_bytes {
                let wanted = i64::try_from(most - rows.len()).unwrap_or(FETCHED_ROWS).min(FETCHED_ROWS);
                has_more = cursor.fetch(wanted, |row| {
                    let has_none = row.is_null(table.label_column());
                    if has_none || before.map_or(Ok(false), |before| before.differs(row))? {
                        let row = table.row(row)?;
                        bytes += row.size();
                        rows.push(row);
                    }
                    Ok(true)
                })?;
            }
            Ok(())
        })?;
        Ok(rows)
    }
}
