//! `susx.label_counts(...)`: how many labels of a table are up to date, for the view `susx.label_column`.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::labeller::{Labeller, Status};
use crate::pg::catalog::label_table::{LabelRow, LabelTable, Record, column_of};
use crate::pg::error::{Error, Result};
use crate::pg::name::Name;
use crate::pg::regclass::RegClass;
use crate::pg::spi::Access;
use crate::pg::version::SameVersion;

/// Numbers of rows.
#[derive(Clone, Copy, Debug, Default)]
struct LabelCounts {
    labelled: i64,
    outdated: i64,
    rejected: i64,
    corrected: i64,
    unlabelled: i64,
}

/// Reads the whole table and counts its rows by the state of their label.
#[pg_extern(stable, parallel_unsafe, cost = 1000000)]
#[allow(clippy::type_complexity)]
fn label_counts(
    _version: SameVersion,
    rel: Option<RegClass>,
    label_column: default!(Option<Name>, "'label'"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(labelled, i64),
            name!(outdated, i64),
            name!(rejected, i64),
            name!(corrected, i64),
            name!(unlabelled, i64),
        ),
    >,
    ErrorReport,
> {
    let relation = Error::required(rel, "rel")?;
    let Name(label_column) = Error::required(label_column, "label_column")?;
    let counts = count(relation, &label_column)?;
    Ok(TableIterator::new(
        counts.map(|it| (it.labelled, it.outdated, it.rejected, it.corrected, it.unlabelled)),
    ))
}

/// `None` if susx has not labelled the column, if row-level security hides rows of the table, or if the caller may not read
/// the classifier.
fn count(relation: RegClass, label_column: &str) -> Result<Option<LabelCounts>> {
    relation.open_for_reading()?;
    if relation.has_row_security() {
        return Ok(None);
    }
    let Some((labelling, found)) = column_of(relation, label_column)? else { return Ok(None) };
    // The view shows all columns that the caller may read, even if a classifier or a column no longer exists.
    let Ok(table) = LabelTable::open_for_reading(relation, &found.columns) else { return Ok(None) };
    if found.classifier.open_for_reading().is_err() {
        return Ok(None);
    }
    // If the column has become a column of tags since then, the recorded method does not apply.
    let method = found.method.as_deref().filter(|_| !table.holds_tags());
    let labeller = Labeller::get(found.classifier, method, table.holds_tags())?;
    let mut counts = LabelCounts::default();
    table.read_all(|rows| {
        let records = Record::of_rows(labelling, rows.iter().map(|row| &*row.id.name), Access::Statement)?;
        for row in &rows {
            let record = records.get(&row.id.name);
            *counts.of(&labeller, row, record) += 1;
        }
        Ok(())
    })?;
    Ok(Some(counts))
}

impl LabelCounts {
    /// The number that the row counts to.
    fn of(&mut self, labeller: &Labeller, row: &LabelRow, record: Option<&Record>) -> &mut i64 {
        let version = labeller.version(row);
        let is_written = record.is_some_and(|record| record.label == row.label && record.version.is_some());
        match labeller.status(row, version, record, (false, false)) {
            Status::Corrected => &mut self.corrected,
            Status::UpToDate if !labeller.is_none(row.label.as_deref()) => &mut self.labelled,
            Status::UpToDate if labeller.is_classifiable(row) => &mut self.rejected,
            Status::ToLabel if is_written => &mut self.outdated,
            Status::Unembedded { .. } if row.label.is_some() => &mut self.outdated,
            Status::UpToDate | Status::ToLabel | Status::Unembedded { .. } => &mut self.unlabelled,
        }
    }
}
