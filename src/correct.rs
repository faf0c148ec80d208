//! Correcting the label of a row, which teaches the classifier.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::sus::unit;

use crate::few_shot::check_category;
use crate::labeller::Labeller;
use crate::limits;
use crate::pg::catalog::classifier as catalog;
use crate::pg::catalog::column::Column;
use crate::pg::catalog::label_table::{
    LabelColumns, LabelRow, LabelTable, Labelling, NewLabel, NewRecord, Record, column_of,
};
use crate::pg::catalog::{prevent_in_read_only, provenance};
use crate::pg::error::{Error, Result, SqlError};
use crate::pg::name::Name;
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;

/// There is no row to correct.
#[derive(Debug, thiserror::Error)]
#[error("relation \"{relation}\" has no row with the key \"{key}\" that you may update")]
struct NoRow {
    relation: String,
    key: String,
}

impl SqlError for NoRow {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_NO_DATA_FOUND
    }

    fn hint(&self) -> Option<String> {
        Some(
            "Write the key as in susx.errors: if it has several columns, as the text of a record.".to_owned(),
        )
    }
}

/// A row with several tags has no single right label, and an image of several things is not an example of one of them.
fn tags_are_updated(relation: RegClass, label_column: &str) -> Result<Error> {
    let (name, quoted) = (relation.name()?, relation.quoted()?);
    let column = pgrx::spi::quote_identifier(label_column);
    Ok(Error::argument(format!(
        "column \"{label_column}\" of relation \"{name}\" holds several tags per row, so there is no single category \
         to correct"
    ))
    .with_hint(format!(
        "UPDATE {quoted} SET {column} = '{{...}}' WHERE ...: susx leaves tags alone that somebody else wrote. \
         susx.add_support gives the classifier examples."
    )))
}

/// Gives a row its right label, and the classifier the row's image as an example of it. NULL: it shows none of the
/// categories. With `undo`, the row is as if it had never been corrected. Returns what was done.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::too_many_arguments)]
fn correct(
    _version: SameVersion,
    classifier: Option<RegClass>,
    rel: Option<RegClass>,
    key: Option<&str>,
    category: Option<&str>,
    label_column: default!(Option<Name>, "'label'"),
    undo: default!(Option<bool>, "false"),
) -> Result<String, ErrorReport> {
    let classifier = Error::required(classifier, "classifier")?;
    let relation = Error::required(rel, "rel")?;
    let key = Error::required(key, "key")?;
    let Name(label_column) = Error::required(label_column, "label_column")?;
    let undo = Error::required(undo, "undo")?;
    limits::check_bytes("key", limits::TEXT_BYTES, key.len())?;
    if undo && category.is_some() {
        return Err(Error::argument("with undo => true, category must be NULL").into());
    }
    classifier.open_for_replacing()?;
    catalog::settings(classifier).map_err(|error| catalog::swapped(error, relation))?;
    prevent_in_read_only();
    if let Some(category) = category {
        check_category(classifier, category)?;
    }
    let correction = Correction::begin(classifier, relation, key, &label_column)?;
    Ok(if undo { correction.undo()? } else { correction.make(category)? })
}

/// A row that is being corrected.
struct Correction {
    classifier: RegClass,
    table: LabelTable,
    labelling: i32,
    labeller: Labeller,
    row: LabelRow,
}

impl Correction {
    /// Finds the row and locks it.
    fn begin(classifier: RegClass, relation: RegClass, key: &str, label_column: &str) -> Result<Self> {
        relation.open_for_reading()?;
        if Column::of_labels(relation, label_column)?.holds_tags() {
            return Err(tags_are_updated(relation, label_column)?);
        }
        let labeller = Labeller::get(classifier, None, false)?;
        let known = column_of(relation, label_column)?.map(|(_, labelling)| labelling.columns);
        let columns = match known {
            Some(columns) => columns,
            None => LabelColumns {
                label: label_column.to_owned(),
                probability: None,
                known: None,
                embedding: "embedding".to_owned(),
                likeness: provenance::table_likeness(relation, None, classifier, labeller.settings())?,
            },
        };
        provenance::check_pool(relation, &columns.embedding, classifier, labeller.settings())?;
        // The probability that the row is of any category stays as it is.
        let columns = LabelColumns { known: None, ..columns };
        let table = LabelTable::open(relation, &columns)?;
        let labelling = Labelling { classifier, method: None, state: labeller.state, columns }
            .find_or_register(&table)?;
        let Some(row) = table.find(key)? else {
            return Err(NoRow { relation: table.name.clone(), key: key.to_owned() }.into());
        };
        Ok(Correction { classifier, table, labelling, labeller, row })
    }

    fn make(self, category: Option<&str>) -> Result<String> {
        let was = self.write(category, true)?;
        let key = &self.row.id.name;
        let replaced = catalog::delete_images_of(self.classifier, key, false)? > 0;
        let support = match category {
            None if replaced => "its image is no longer a support image",
            None => "the classifier is unchanged",
            Some(category) => match self.teach(category)? {
                None if replaced => "its support image is now labelled",
                None => "its image is now a labelled support image",
                Some(reason) => reason,
            },
        };
        let now = category.map_or("none of the categories".to_owned(), |category| format!("\"{category}\""));
        Ok(format!("row {key} of \"{}\" is {now}, {was}; {support}", self.table.name))
    }

    fn undo(self) -> Result<String> {
        let was = self.write(None, false)?;
        let key = &self.row.id.name;
        let support = match catalog::delete_images_of(self.classifier, key, true)? {
            0 => "the classifier is unchanged",
            _ => "its image is no longer a labelled support image",
        };
        let table = &self.table.name;
        Ok(format!("row {key} of \"{table}\" will be labelled again, {was}; {support}"))
    }

    /// Writes the label and records that it was corrected. Returns what it was.
    fn write(&self, category: Option<&str>, is_corrected: bool) -> Result<String> {
        let LabelRow { id, label, probability, .. } = &self.row;
        let new = NewLabel {
            label: category.map(str::to_owned),
            is_changed: label.as_deref() != category || probability.is_some(),
            ..NewLabel::default()
        };
        if self.table.write(&[id], &[new])?.written.is_empty() {
            return Err(self.table.permission_denied());
        }
        // Without a version, the row is labelled again when it may be.
        let version = self.labeller.version(&self.row).filter(|_| is_corrected);
        let record = Record { version, label: category.map(str::to_owned), is_corrected };
        Record::write(self.labelling, vec![NewRecord { key: id.name.clone(), record }])?;
        Ok(match label.as_deref() {
            None => "where it had no label".to_owned(),
            Some(label) if Some(label) == category => "as before".to_owned(),
            Some(label) => format!("not \"{label}\""),
        })
    }

    /// Adds the row's image to the support set; the reason if it cannot be.
    fn teach(&self, category: &str) -> Result<Option<&'static str>> {
        let Some(embedding) = self.row.embedding.clone() else {
            return Ok(Some("it has no embedding, so the classifier is unchanged"));
        };
        if !self.labeller.is_classifiable(&self.row) || unit(&embedding.0).is_err() {
            return Ok(Some("its vectors cannot be compared, so the classifier is unchanged"));
        }
        let likeness = self.row.likeness.clone().filter(|_| self.labeller.uses_likeness());
        if likeness.is_none() && self.labeller.uses_likeness() {
            return Ok(Some(
                "it has no likeness vector, which support images need, so the classifier is unchanged",
            ));
        }
        catalog::insert_image_of(self.classifier, &self.row.id.name, category, embedding, likeness)?;
        Ok(None)
    }
}
