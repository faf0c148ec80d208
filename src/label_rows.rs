//! Labels of some rows of a table: what the procedure and the trigger do.

use crate::labeller::{Label, Labeller, Status};
use crate::pg::catalog::errors::RowFailure;
use crate::pg::catalog::label_table::{LabelRow, LabelTable, NewLabel, NewRecord, Record, RowId, Written};
use crate::pg::error::Result;
use crate::pg::spi::Access;

/// What became of rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Rows that got a label, or none because they are rejected.
    pub labelled: u64,
    /// Those among them that have another label than before.
    pub changed: u64,
    /// Those among them that were rejected.
    pub rejected: u64,
    pub failed: u64,
    /// Rows whose label susx did not write.
    pub corrected: u64,
    /// Rows without an embedding.
    pub unembedded: u64,
    /// Rows that others have changed in the meantime, or are changing.
    pub contended: u64,
    /// Rows that a trigger or a policy of the table does not let the call write.
    pub refused: u64,
    /// Rows that have a record now.
    pub recorded: u64,
}

impl Counts {
    pub fn add(&mut self, other: Counts) {
        self.labelled += other.labelled;
        self.changed += other.changed;
        self.rejected += other.rejected;
        self.failed += other.failed;
        self.corrected += other.corrected;
        self.unembedded += other.unembedded;
        self.contended += other.contended;
        self.refused += other.refused;
        self.recorded += other.recorded;
    }
}

/// What a row gets, and why.
struct Write<'r> {
    row: &'r LabelRow,
    new: NewLabel,
    version: Option<i64>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Labelled,
    Rejected,
    Failed(RowFailure),
    /// The row lost its embedding.
    Cleared,
}

/// Labels those rows that need it, in a running transaction. `access`: which records count. With `only_new`, rows that
/// susx has labelled before stay as they are.
pub fn label(
    table: &LabelTable,
    labelling: i32,
    labeller: &Labeller,
    rows: &[LabelRow],
    only_new: bool,
    access: Access,
) -> Result<Counts> {
    let records = Record::of_rows(labelling, rows.iter().map(|row| &*row.id.name), access)?;
    let has_numbers = table.has_numbers();
    let (mut counts, mut writes, mut to_label) = (Counts::default(), Vec::new(), Vec::new());
    for row in rows {
        let record = records.get(&row.id.name);
        counts.recorded += u64::from(record.is_some());
        if only_new && record.is_some_and(|record| record.version.is_some()) {
            continue;
        }
        let version = labeller.version(row);
        match labeller.status(row, version, record, has_numbers) {
            Status::Corrected => counts.corrected += 1,
            Status::UpToDate => {}
            Status::Unembedded { is_stale } => {
                counts.unembedded += 1;
                if is_stale {
                    let new = NewLabel { is_changed: true, ..NewLabel::default() };
                    writes.push(Write { row, new, version, kind: Kind::Cleared });
                }
            }
            Status::ToLabel => to_label.push((row, version)),
        }
    }
    let chosen: Vec<&LabelRow> = to_label.iter().map(|(row, _)| *row).collect();
    for ((row, version), answer) in to_label.into_iter().zip(labeller.labels(&chosen, has_numbers)?) {
        let (new, kind) = match answer {
            Ok(Label { text, probability, known }) => {
                let is_none = labeller.is_none(text.as_deref());
                let kind = if is_none { Kind::Rejected } else { Kind::Labelled };
                let probability = probability.filter(|_| has_numbers.0);
                (NewLabel { label: text, probability, known, is_changed: false }, kind)
            }
            Err(failure) => (NewLabel::default(), Kind::Failed(failure)),
        };
        let is_changed =
            new.label != row.label || new.probability != row.probability || new.known != row.known;
        writes.push(Write { row, new: NewLabel { is_changed, ..new }, version, kind });
    }
    // In the order of the key, as the rows were read.
    writes.sort_by_key(|write| std::ptr::from_ref(write.row));
    write(table, labelling, &records, writes, &mut counts)?;
    Ok(counts)
}

fn write(
    table: &LabelTable,
    labelling: i32,
    records: &std::collections::HashMap<String, Record>,
    writes: Vec<Write>,
    counts: &mut Counts,
) -> Result<()> {
    let failed: Vec<(&RowId, RowFailure)> = writes
        .iter()
        .filter_map(|write| match &write.kind {
            Kind::Failed(failure) => Some((&write.row.id, failure.clone())),
            _ => None,
        })
        .collect();
    // Before the rows are written, since only rows are recorded that have not changed since they were read.
    if !failed.is_empty() {
        table.record(&failed)?;
    }
    let ids: Vec<&RowId> = writes.iter().map(|write| &write.row.id).collect();
    let labels: Vec<NewLabel> = writes.iter().map(|write| write.new.clone()).collect();
    let Written { written, refused } = table.write(&ids, &labels)?;
    counts.refused += refused.len() as u64;
    counts.contended += writes.len().saturating_sub(written.len() + refused.len()) as u64;
    let (mut new_records, mut done) = (Vec::with_capacity(written.len()), Vec::new());
    for write in written.iter().filter_map(|&index| writes.get(index)) {
        let id = &write.row.id;
        match &write.kind {
            Kind::Labelled | Kind::Rejected => {
                counts.labelled += 1;
                counts.changed += u64::from(write.new.label != write.row.label);
                counts.rejected += u64::from(matches!(write.kind, Kind::Rejected));
            }
            Kind::Failed(_) => counts.failed += 1,
            Kind::Cleared => {}
        }
        if !matches!(write.kind, Kind::Failed(_)) {
            done.push(id);
        }
        counts.recorded += u64::from(!records.contains_key(&id.name));
        let record = Record { version: write.version, label: write.new.label.clone(), is_corrected: false };
        new_records.push(NewRecord { key: id.name.clone(), record });
    }
    Record::write(labelling, new_records)?;
    if !done.is_empty() && table.has_records()? {
        table.forget_done(&done)?;
    }
    Ok(())
}
