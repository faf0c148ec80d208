//! `susx.labelling`: what the labels of a column are made with.

use std::ffi::CStr;

use pgrx::datum::DatumWithOid;

use super::{LabelColumns, LabelTable};
use crate::pg::catalog::as_owner::as_owner;
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::spi::operators::EQ;
use crate::pg::spi::{arg, first, freeing_arguments, read};

/// The name of the table.
const LABELLING: &CStr = c"labelling";

/// The row of a column of labels.
#[derive(Clone, Debug)]
pub struct Labelling {
    pub classifier: RegClass,
    /// As it was named in the call; `None` for the classifier's own.
    pub method: Option<String>,
    /// A digest of the classifier.
    pub state: [u8; 32],
    pub columns: LabelColumns,
}

impl Labelling {
    /// The number of the row for this table, which is written unless it is there already. The caller must be allowed to
    /// update the column of labels.
    pub fn register(&self, table: &LabelTable) -> Result<i32> {
        self.register_unless(
            table,
            "ROW(l.classifier, l.method, l.state, l.embedding_column::pg_catalog.text, \
                      l.likeness_column::pg_catalog.text, l.probability_column::pg_catalog.text, \
                      l.known_column::pg_catalog.text) \
                      IS NOT DISTINCT FROM ROW($3, $4, $5, $6, $7, $8, $9)",
        )
    }

    /// Like [`register`](Self::register), but a row of the same classifier is left as it is.
    pub fn register_classifier(&self, table: &LabelTable) -> Result<i32> {
        self.register_unless(table, &format!("l.classifier {EQ} $3"))
    }

    /// Like [`register`](Self::register), but any row is left as it is.
    pub fn find_or_register(&self, table: &LabelTable) -> Result<i32> {
        self.register_unless(table, "true")
    }

    /// `same`: the condition that row `l` stays as it is.
    fn register_unless(&self, table: &LabelTable, same: &str) -> Result<i32> {
        let find = format!(
            "SELECT l.id FROM susx.labelling l WHERE l.relation {EQ} $1 AND l.label_column {EQ} $2::pg_catalog.name \
             AND {same}"
        );
        let write = "INSERT INTO susx.labelling (relation, label_column, classifier, method, state, embedding_column, \
             likeness_column, probability_column, known_column, id) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (relation, label_column) DO UPDATE \
             SET classifier = excluded.classifier, method = excluded.method, state = excluded.state, \
             embedding_column = excluded.embedding_column, likeness_column = excluded.likeness_column, \
             probability_column = excluded.probability_column, known_column = excluded.known_column RETURNING id";
        freeing_arguments(|| {
            let args = self.args(table);
            if let Some(id) = as_owner(LABELLING, || first(&find, &args))? {
                return Ok(id);
            }
            let mut args = self.args(table);
            args.push(arg(free_id()?));
            let id = as_owner(LABELLING, || {
                Ok(pgrx::Spi::connect_mut(|client| {
                    client.update(write, None, &args)?.first().get_one::<i32>()
                })?)
            })?;
            id.ok_or_else(|| Error::internal("a labelling was not written"))
        })
    }

    fn args<'a>(&self, table: &LabelTable) -> Vec<DatumWithOid<'a>> {
        let LabelColumns { label: _, probability, known, embedding, likeness } = &self.columns;
        vec![
            arg(table.relation),
            arg(table.column.clone()),
            arg(self.classifier),
            arg(self.method.clone()),
            arg(self.state.to_vec()),
            arg(embedding.clone()),
            arg(likeness.clone()),
            arg(probability.clone()),
            arg(known.clone()),
        ]
    }
}

/// A number that no labelling has. A restored table of labellings has numbers that its sequence has not given yet.
fn free_id() -> Result<i32> {
    let next = "SELECT pg_catalog.nextval('susx.labelling_id_seq')::pg_catalog.int4";
    let taken = format!("SELECT true FROM susx.labelling WHERE id {EQ} $1");
    as_owner(LABELLING, || {
        loop {
            pgrx::check_for_interrupts!();
            let id: Option<i32> = first(next, &[])?;
            let id = id.ok_or_else(|| Error::internal("nextval returned NULL"))?;
            if first::<bool>(&taken, &[arg(id)])?.is_none() {
                return Ok(id);
            }
        }
    })
}

/// The labelling of a column, by its number; `None` if susx has never labelled it. The caller must be allowed to read the
/// table.
pub fn column_of(relation: RegClass, label_column: &str) -> Result<Option<(i32, Labelling)>> {
    let sql = format!(
        "SELECT id, classifier, method, state, embedding_column::pg_catalog.text, likeness_column::pg_catalog.text, \
         probability_column::pg_catalog.text, known_column::pg_catalog.text \
         FROM susx.labelling WHERE relation {EQ} $1 AND label_column {EQ} $2::pg_catalog.name"
    );
    let mut found = None;
    as_owner(LABELLING, || {
        read(&sql, &[arg(relation), arg(label_column.to_owned())], |row| {
            let columns = LabelColumns {
                label: label_column.to_owned(),
                embedding: row.required(5)?,
                likeness: row.get(6)?,
                probability: row.get(7)?,
                known: row.get(8)?,
            };
            let state: Vec<u8> = row.required(4)?;
            let state =
                state.try_into().map_err(|_| Error::internal("a state has another length than 32 bytes"))?;
            let labelling = Labelling { classifier: row.required(2)?, method: row.get(3)?, state, columns };
            found = Some((row.required(1)?, labelling));
            Ok(false)
        })
    })?;
    Ok(found)
}
