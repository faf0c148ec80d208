//! The rows that a statement wrote and whose labels may be out of date, found through its trigger's transition tables.

use pgrx::PgTrigger;
use pgrx::spi::quote_identifier;

use super::{LabelRow, LabelTable};
use crate::batches::FETCHED_ROWS;
use crate::pg::catalog::session_settings::{EXACT_TEXT, with_settings};
use crate::pg::catalog::transition_rows::TransitionTables;
use crate::pg::error::Result;
use crate::pg::spi::{Row, TriggerCursor};

/// Reads the rows of a statement that have no label, or other vectors than before it.
///
/// Their present state comes from the table itself: another trigger may have changed them after the statement.
pub struct LabelTransitionRows<'a> {
    table: &'a LabelTable,
    is_update: bool,
    cursor: TriggerCursor,
}

impl<'a> LabelTransitionRows<'a> {
    pub fn open(table: &'a LabelTable, trigger: &PgTrigger, tables: TransitionTables) -> Result<Self> {
        let mut columns = vec![table.selected()];
        let mut from = format!(
            "{} n JOIN {} t ON {}",
            quote_identifier(tables.new),
            table.table,
            table.same_key("t", "n")
        );
        if let Some(old) = tables.old.map(quote_identifier) {
            from += &format!(" LEFT JOIN {old} o ON {}", table.same_key("o", "n"));
            columns.push(format!("o.{} IS NOT NULL", table.key[0].quoted));
            for vectors in [Some(&table.embedding), table.likeness.as_ref()].into_iter().flatten() {
                columns.push(format!("n.{vectors}"));
                columns.push(format!("o.{vectors}"));
            }
        }
        let sql =
            format!("SELECT {} FROM {from} ORDER BY {}", columns.join(", "), table.key_columns().join(", "));
        let cursor = TriggerCursor::open(trigger, &sql)?;
        Ok(LabelTransitionRows { table, is_update: tables.old.is_some(), cursor })
    }

    /// The next rows, up to `most`, or fewer once their vectors have `most_bytes`. None at the end.
    pub fn next(&mut self, most: usize, most_bytes: usize) -> Result<Vec<LabelRow>> {
        let LabelTransitionRows { table, is_update, cursor } = self;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        // Only reading runs with these settings. Writing fires triggers, which see the caller's.
        with_settings(&EXACT_TEXT, || {
            let mut has_more = true;
            while has_more && rows.len() < most && bytes < most_bytes {
                let wanted = i64::try_from(most - rows.len()).unwrap_or(FETCHED_ROWS).min(FETCHED_ROWS);
                has_more = cursor.fetch(wanted, |row| {
                    if may_be_outdated(table, *is_update, row)? {
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

/// Whether a row has no label, or got other vectors by the statement. The columns are those of
/// [`LabelTransitionRows::open`].
fn may_be_outdated(table: &LabelTable, is_update: bool, row: &Row) -> Result<bool> {
    let label = table.key.len() as i32 + 3;
    if !is_update || row.is_null(label) {
        return Ok(row.is_null(label));
    }
    let matched = table.next_column();
    // A row whose key was changed has no known former vectors.
    if !row.required::<bool>(matched)? {
        return Ok(true);
    }
    let pairs = 1 + i32::from(table.likeness.is_some());
    for pair in 0..pairs {
        if !row.has_same_vector(matched + 1 + 2 * pair, matched + 2 + 2 * pair)? {
            return Ok(true);
        }
    }
    Ok(false)
}
