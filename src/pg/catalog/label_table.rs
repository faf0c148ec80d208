//! Tables of images whose labels are to be written.

mod find;
mod gone;
mod labelling;
mod read;
mod records;
mod transition;
mod write;

use std::ops::Deref;

use super::column::Column;
use super::keyed_table::KeyedTable;
pub use super::keyed_table::RowId;
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::relation_error::RelationError;
use crate::pg::spi::Row;
use crate::pg::vector::Vector;
pub use labelling::{Labelling, column_of};
pub use read::{KeyRange, Selection};
pub use records::{NewRecord, Record};
pub use transition::LabelTransitionRows;
pub use write::NewLabel;

/// The names of the columns that a call reads and writes.
#[derive(Clone, Debug)]
pub struct LabelColumns {
    pub label: String,
    pub probability: Option<String>,
    pub known: Option<String>,
    pub embedding: String,
    pub likeness: Option<String>,
}

/// A table of images with a column of labels, its columns checked and quoted.
#[derive(Debug)]
pub struct LabelTable {
    /// The column of labels is the one that is written.
    rows: KeyedTable,
    /// The columns, quoted for SQL text.
    label: String,
    probability: Option<String>,
    known: Option<String>,
    embedding: String,
    likeness: Option<String>,
}

impl Deref for LabelTable {
    type Target = KeyedTable;

    fn deref(&self) -> &KeyedTable {
        &self.rows
    }
}

/// A row of the table, as it was read.
#[derive(Clone, Debug)]
pub struct LabelRow {
    pub id: RowId,
    pub label: Option<String>,
    /// NULL, too, where the call names no such column.
    pub probability: Option<f64>,
    pub known: Option<f64>,
    pub embedding: Option<Vector>,
    pub likeness: Option<Vector>,
}

impl LabelTable {
    /// Checks the table, the columns and the caller's rights, and locks the table against being changed until the
    /// transaction ends. A procedure does so again in every transaction.
    pub fn open(relation: RegClass, columns: &LabelColumns) -> Result<Self> {
        let table = Self::open_for_reading(relation, columns)?;
        Column::open(relation, &columns.label)?.check_writable(relation, &columns.label)?;
        for name in [&columns.probability, &columns.known].into_iter().flatten() {
            Column::of_numbers(relation, name)?.check_writable(relation, name)?;
        }
        Ok(table)
    }

    /// As [`open`](Self::open), for a caller who only reads the table.
    pub fn open_for_reading(relation: RegClass, columns: &LabelColumns) -> Result<Self> {
        KeyedTable::check(relation, "labelled")?;
        let label = Column::of_labels(relation, &columns.label)?.quoted;
        let number = |name: &Option<String>| -> Result<Option<String>> {
            name.as_ref().map(|name| Ok(Column::of_numbers(relation, name)?.quoted)).transpose()
        };
        let vectors = |name: &String| Column::of_vectors(relation, name).map(|column| column.quoted);
        let (probability, known) = (number(&columns.probability)?, number(&columns.known)?);
        if probability.is_some() && probability == known {
            return Err(Error::argument("probability_column and known_column must be different columns"));
        }
        Ok(LabelTable {
            rows: KeyedTable::of(relation, &columns.label)?,
            label,
            probability,
            known,
            embedding: vectors(&columns.embedding)?,
            likeness: columns.likeness.as_ref().map(vectors).transpose()?,
        })
    }

    /// The error that the caller may not update a row.
    pub fn permission_denied(&self) -> Error {
        RelationError::Permission(self.name.clone()).into()
    }

    /// Whether row-level security hides rows of the table from the caller.
    pub fn has_row_security(&self) -> bool {
        self.relation.has_row_security()
    }

    /// Whether the call writes how likely labels are, or how likely rows are to be of any category.
    pub fn has_numbers(&self) -> (bool, bool) {
        (self.probability.is_some(), self.known.is_some())
    }

    /// The columns of row `t` that [`row`](Self::row) reads.
    fn selected(&self) -> String {
        let keys: Vec<String> =
            (1..).zip(self.key_columns()).map(|(i, column)| format!("{column} AS k{i}")).collect();
        let number = |name: &Option<String>| match name {
            Some(name) => format!("t.{name}::pg_catalog.float8"),
            None => "NULL::pg_catalog.float8".to_owned(),
        };
        let mut columns = vec![
            keys.join(", "),
            format!("{} AS name", self.key_text()),
            format!("{} AS version", super::keyed_table::VERSION),
            format!("t.{}::pg_catalog.text AS label", self.label),
            format!("{} AS probability", number(&self.probability)),
            format!("{} AS known", number(&self.known)),
            format!("t.{} AS embedding", self.embedding),
        ];
        columns.extend(self.likeness.as_ref().map(|likeness| format!("t.{likeness} AS likeness")));
        columns.join(", ")
    }

    /// The number of the column after those of [`selected`](Self::selected).
    fn next_column(&self) -> i32 {
        self.key.len() as i32 + 7 + i32::from(self.likeness.is_some())
    }

    fn row(&self, row: &Row) -> Result<LabelRow> {
        let first = self.key.len() as i32 + 3;
        Ok(LabelRow {
            id: self.row_id(row)?,
            label: row.get(first)?,
            probability: row.get(first + 1)?,
            known: row.get(first + 2)?,
            embedding: row.get(first + 3)?,
            likeness: if self.likeness.is_some() { row.get(first + 4)? } else { None },
        })
    }
}
