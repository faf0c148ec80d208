//! Tables of images to label.

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
pub use super::keyed_table::{RowId, Written};
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::relation_error::RelationError;
use crate::pg::spi::Row;
use crate::pg::vector::Vector;
pub use labelling::{Labelling, column_of};
pub use read::{KeyRange, Selection};
pub use records::{NewRecord, Record};
pub use transition::{LabelTransitionRows, may_have_outdated};
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
    /// The column to write is the column of labels.
    rows: KeyedTable,
    /// The columns, quoted for SQL text.
    label: String,
    probability: Option<String>,
    known: Option<String>,
    embedding: String,
    likeness: Option<String>,
    holds_tags: bool,
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
    /// transaction ends. A procedure does this again in every transaction.
    pub fn open(relation: RegClass, columns: &LabelColumns) -> Result<Self> {
        let table = Self::open_for_reading(relation, columns)?;
        Column::open(relation, &columns.label)?.check_writable(relation, &columns.label)?;
        for name in [&columns.probability, &columns.known].into_iter().flatten() {
            Column::of_numbers(relation, name)?.check_writable(relation, name)?;
        }
        Ok(table)
    }

    /// Like [`open`](Self::open), for a caller who only reads the table.
    pub fn open_for_reading(relation: RegClass, columns: &LabelColumns) -> Result<Self> {
        KeyedTable::check(relation, "labelled")?;
        let label = Column::of_labels(relation, &columns.label)?;
        let number = |name: &Option<String>| -> Result<Option<Column>> {
            name.as_ref().map(|name| Column::of_numbers(relation, name)).transpose()
        };
        let vectors = |name: &String| Column::of_vectors(relation, name);
        let (probability, known) = (number(&columns.probability)?, number(&columns.known)?);
        let quoted = |column: &Option<Column>| column.as_ref().map(|column| column.quoted.clone());
        if probability.is_some() && quoted(&probability) == quoted(&known) {
            return Err(Error::argument("probability_column and known_column must be different columns"));
        }
        if let Some(name) = columns.probability.as_ref().filter(|_| label.holds_tags()) {
            return Err(Error::argument(format!(
                "column \"{}\" holds several tags per row, so there is no probability for column \"{name}\"",
                columns.label
            ))
            .with_hint(
                "Omit probability_column; susx.tag_probabilities returns the probability of each category.",
            ));
        }
        let embedding = vectors(&columns.embedding)?;
        let likeness = columns.likeness.as_ref().map(vectors).transpose()?;
        let read: Vec<&Column> = [&label, &embedding]
            .into_iter()
            .chain([&probability, &known, &likeness].into_iter().flatten())
            .collect();
        Ok(LabelTable {
            rows: KeyedTable::of(relation, &columns.label, &read)?,
            probability: quoted(&probability),
            known: quoted(&known),
            likeness: quoted(&likeness),
            holds_tags: label.holds_tags(),
            label: label.quoted,
            embedding: embedding.quoted,
        })
    }

    /// The error that the caller may not update a row.
    pub fn permission_denied(&self) -> Error {
        RelationError::Permission(self.name.clone()).into()
    }

    /// Whether the column takes any number of tags per row, as an array, rather than one label.
    pub fn holds_tags(&self) -> bool {
        self.holds_tags
    }

    /// Whether row-level security hides rows of the table from the caller.
    pub fn has_row_security(&self) -> bool {
        self.relation.has_row_security()
    }

    /// Whether the call writes the probabilities of labels, or the probabilities that rows are of any category.
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

    /// The number of the column of labels among those of [`selected`](Self::selected).
    fn label_column(&self) -> i32 {
        self.key.len() as i32 + 3
    }

    /// The columns of vectors, quoted.
    fn vectors(&self) -> Vec<String> {
        [Some(&self.embedding), self.likeness.as_ref()].into_iter().flatten().cloned().collect()
    }

    /// The number of the column after those of [`selected`](Self::selected).
    fn next_column(&self) -> i32 {
        self.key.len() as i32 + 7 + i32::from(self.likeness.is_some())
    }

    fn row(&self, row: &Row) -> Result<LabelRow> {
        let first = self.label_column();
        Ok(LabelRow {
            id: self.row_id(row)?,
            label: row.get(first)?,
            probability: row.get(first + 1)?,
            known: row.get(first + 2)?,
            embedding: row.vector(first + 3)?,
            likeness: if self.likeness.is_some() { row.vector(first + 4)? } else { None },
        })
    }
}
