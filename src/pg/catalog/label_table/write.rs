//! Writing labels.

use super::LabelTable;
use crate::pg::catalog::keyed_table::{RowId, VERSION, Written, outcome};
use crate::pg::error::Result;
use crate::pg::spi::operators::EQ;
use crate::pg::spi::{arg, freeing_arguments};

/// What a row gets.
#[derive(Clone, Debug, Default)]
pub struct NewLabel {
    /// Tags as the text of an array.
    pub label: Option<String>,
    pub probability: Option<f64>,
    pub known: Option<f64>,
    /// Whether the row has other values. Otherwise, it is only locked.
    pub is_changed: bool,
}

impl LabelTable {
    /// Writes labels to those rows that have not changed since they were read. Returns the indices of the rows that have
    /// the label now, and of those that the table's triggers and policies do not let it write.
    ///
    /// All of them are locked, even those that already have the values. A session that writes the record of a row holds
    /// the row's lock, so there are no deadlocks about records. A row that another transaction is changing is skipped
    /// rather than waited for.
    pub fn write(&self, rows: &[&RowId], labels: &[NewLabel]) -> Result<Written> {
        let LabelTable { label, probability, known, holds_tags, .. } = self;
        let table = &self.table;
        let joined = self.joined("t", "u");
        let next = self.key.len() + 6;
        let (first, last) = (next, next + 1);
        let key = &self.key[0];
        // The rows were read in the order of the key, so only this part of the table is looked at.
        let range = format!(
            "NOT ${first}::{0} {1} t.{2} AND NOT t.{2} {1} ${last}::{0}",
            key.base_type, key.greater, key.quoted
        );
        let mut assignments = vec![match holds_tags {
            true => format!("{label} = u.label::pg_catalog.text[]"),
            false => format!("{label} = u.label"),
        }];
        assignments.extend(probability.as_ref().map(|column| format!("{column} = u.probability")));
        assignments.extend(known.as_ref().map(|column| format!("{column} = u.known")));
        // A row that is locked stays where it is, so it is found again by its place.
        let sql = format!(
            "WITH locked AS MATERIALIZED (SELECT u.*, t.tableoid AS place, t.ctid AS version_id FROM {} JOIN {table} t ON {joined} AND {range} \
             WHERE {VERSION} {EQ} u.version FOR NO KEY UPDATE OF t SKIP LOCKED), \
             written AS (UPDATE {table} t SET {} FROM locked u \
             WHERE u.is_changed AND t.ctid {EQ} u.version_id AND t.tableoid {EQ} u.place AND {range} \
             RETURNING u.ord, true AS is_done) {}",
            self.unnest(&["version", "label", "probability", "known", "is_changed"]),
            assignments.join(", "),
            outcome("NOT l.is_changed"),
        );
        let (Some(low), Some(high)) = (rows.first(), rows.last()) else { return Ok(Written::default()) };
        freeing_arguments(|| {
            let mut args = self.row_args(rows);
            args.push(arg(labels.iter().map(|new| new.label.clone()).collect::<Vec<_>>()));
            args.push(arg(labels.iter().map(|new| new.probability).collect::<Vec<_>>()));
            args.push(arg(labels.iter().map(|new| new.known).collect::<Vec<_>>()));
            args.push(arg(labels.iter().map(|new| new.is_changed).collect::<Vec<_>>()));
            args.push(arg(low.key[0].clone()));
            args.push(arg(high.key[0].clone()));
            self.write_rows(&sql, &args, rows)
        })
    }
}
