//! `susx.embedding_column`: which model the embeddings of a table of images were made by.
//!
//! A vector does not tell what made it, and vectors of different models cannot be compared. So whoever first embeds
//! a table writes down the model and the digest of its files. As long as the column has embeddings, it is an error
//! to mix in those of another model, or to retrieve a support set from them for a classifier of another one.

use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use susx_server::protocol::Model;

use super::classifier::Settings;
use super::images::Images;
use super::own_tables::as_owner;
use super::{arg, first, write};
use crate::inference::client::{OwnModel, Owner};
use crate::pg::claim::Claim;
use crate::pg::error::{Error, Result};
use crate::pg::open::Open;
use crate::pg::regclass::RegClass;
use crate::pg::{roles, snapshot, spi, wait};

const EMBEDDING_COLUMN: &CStr = c"embedding_column";

/// How long others are waited for who have claimed a column for another model, and how often is looked.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A model: its name and, where that is known, the digest of its files.
#[derive(Clone, Debug)]
struct MadeBy {
    model: String,
    sha256: Option<Vec<u8>>,
}

/// What was made by the same files of a model.
#[derive(Debug)]
pub struct Made {
    model: String,
    sha256: Vec<u8>,
    /// Names of classifiers, or of columns.
    pub names: String,
}

impl MadeBy {
    /// What is written down of a column, or of the partitioned table that the relation is a part of.
    fn of(relation: RegClass, column: &str) -> Result<Option<MadeBy>> {
        let sql = "SELECT model, model_sha256 FROM susx.embedding_column \
             WHERE embedding_column OPERATOR(pg_catalog.=) $2::pg_catalog.name \
             AND relation OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT $1 UNION ALL \
             SELECT relid FROM pg_catalog.pg_partition_ancestors($1))) \
             ORDER BY relation OPERATOR(pg_catalog.=) $1 DESC LIMIT 1";
        Ok(MadeBy::read(sql, relation, column)?.pop())
    }

    /// What is written down of the partitions that the relation has.
    fn of_parts(relation: RegClass, column: &str) -> Result<Vec<MadeBy>> {
        // SAFETY: a look-up for any OID.
        if unsafe { pg_sys::get_rel_relkind(relation.0) } as u8 != pg_sys::RELKIND_PARTITIONED_TABLE {
            return Ok(Vec::new());
        }
        let sql = "SELECT DISTINCT model, model_sha256 FROM susx.embedding_column \
             WHERE embedding_column OPERATOR(pg_catalog.=) $2::pg_catalog.name \
             AND relation OPERATOR(pg_catalog.=) ANY (ARRAY(\
             SELECT relid FROM pg_catalog.pg_partition_tree($1) WHERE level OPERATOR(pg_catalog.>) 0))";
        MadeBy::read(sql, relation, column)
    }

    /// As the owner of susx.embedding_column: embeddings must not be mixed by those either whom row-level security keeps
    /// from seeing what is written down of a table.
    fn read(sql: &str, relation: RegClass, column: &str) -> Result<Vec<MadeBy>> {
        let mut found = Vec::new();
        as_owner(EMBEDDING_COLUMN, || {
            spi::read(sql, &[arg(relation), arg(column.to_owned())], |row| {
                found.push(MadeBy { model: row.required(1)?, sha256: row.get(2)? });
                Ok(true)
            })
        })?;
        Ok(found)
    }

    /// Whether embeddings of the one can be compared with those of the other. The same files may have got another
    /// name; where a digest is not known, the name decides.
    fn goes_with(&self, other: &MadeBy) -> bool {
        match (&self.sha256, &other.sha256) {
            (Some(one), Some(another)) => one == another,
            _ => self.model == other.model,
        }
    }

    /// A claim for this model to a column, of the whole partitioned table where the relation is a part of one.
    fn claim(&self, relation: RegClass, column: &str) -> Result<Claim> {
        let name = CString::new(column).map_err(Error::internal)?;
        let mut root = relation;
        // SAFETY: a look-up for any OID.
        if unsafe { pg_sys::get_rel_relispartition(relation.0) } {
            let sql = "SELECT pg_catalog.pg_partition_root($1)::pg_catalog.oid";
            root = first(sql, &[arg(relation)])?.map_or(relation, RegClass);
        }
        // SAFETY: a look-up for any OID and a C string; 0 for a column that does not exist.
        let number = unsafe { pg_sys::get_attnum(root.0, name.as_ptr()) };
        let model = self.sha256.as_deref().unwrap_or(self.model.as_bytes());
        Ok(Claim::new(root, number, model))
    }
}

/// What is to be written down when the transaction commits. Until then its claim tells others.
#[derive(Clone, Debug)]
struct Due {
    relation: RegClass,
    column: String,
    made_by: MadeBy,
    claim: Claim,
}

thread_local! {
    static DUE: RefCell<Vec<Due>> = const { RefCell::new(Vec::new()) };
}

/// What the transaction has to write down of a column, unless it was rolled back to a savepoint before.
fn due(relation: RegClass, column: &str) -> Option<MadeBy> {
    DUE.with_borrow_mut(|all| {
        all.retain(|due| due.claim.is_held());
        let found = all.iter().find(|due| due.relation == relation && due.column == column);
        found.map(|due| due.made_by.clone())
    })
}

impl Images {
    /// The model that embeds this column from now on. It is written down where none is, or where the column has no
    /// embeddings any more; an error if there are embeddings of another one.
    pub fn embedded_by(&self, model: &Model) -> Result<OwnModel> {
        let owner = Owner::Column { relation: self.table.clone(), column: self.column.clone() };
        let sha256 = model.sha256.map(|sha256| sha256.to_vec());
        let model = OwnModel { owner, name: model.name.clone(), sha256 };
        self.are_embedded_by(&model)?;
        Ok(model)
    }

    /// As [`embedded_by`](Self::embedded_by), in every transaction that writes embeddings. Somebody who has claimed the
    /// column for another model is waited for a little, for most find at once that they may not.
    pub fn are_embedded_by(&self, model: &OwnModel) -> Result<()> {
        let used = MadeBy { model: model.name.clone(), sha256: model.sha256.clone() };
        let claim = used.claim(self.relation, &self.column)?;
        let deadline = Instant::now() + PATIENCE;
        while !self.claimed(&used, claim)? {
            claim.give_back();
            if Instant::now() >= deadline {
                return Err(self.contested(&used));
            }
            wait::for_time(LOOK_AGAIN);
        }
        Ok(())
    }

    /// Claims the column for a model, and sees to it that the model is written down; false if somebody else has claimed it
    /// for another one.
    fn claimed(&self, used: &MadeBy, claim: Claim) -> Result<bool> {
        let Images { relation, column, .. } = self;
        // Before anything is looked up: whoever comes later finds the claim.
        let is_uncontested = claim.take();
        let (own, parts) = match due(*relation, column) {
            Some(due) => (Some(due), Vec::new()),
            None => snapshot::with_latest(|| {
                Ok((MadeBy::of(*relation, column)?, MadeBy::of_parts(*relation, column)?))
            })?,
        };
        let other = own.iter().chain(&parts).find(|made_by| !made_by.goes_with(used));
        if let Some(other) = other {
            // Who does not see all rows cannot tell that none has an embedding.
            if relation.has_row_security() || snapshot::with_latest(|| self.has_embeddings())? {
                return Err(self.other_model(other, used));
            }
        }
        if is_uncontested && (own.is_none() || other.is_some()) {
            let due = Due { relation: *relation, column: column.clone(), made_by: used.clone(), claim };
            DUE.with_borrow_mut(|all| {
                all.retain(|other| other.relation != due.relation || other.column != due.column);
                all.push(due);
            });
        }
        Ok(is_uncontested)
    }

    fn has_embeddings(&self) -> Result<bool> {
        let Images { table, embedding, .. } = self;
        let sql = format!("SELECT EXISTS (SELECT FROM {table} WHERE {embedding} IS NOT NULL)");
        Ok(first(&sql, &[])?.unwrap_or(false))
    }

    fn contested(&self, used: &MadeBy) -> Error {
        Error::OtherModel {
            message: format!(
                "column \"{}\" of relation \"{}\" is getting embeddings of another model than \"{}\" from another \
                 transaction",
                self.column, self.name, used.model
            ),
            hint: "Wait until that transaction has ended, or name its model.".to_owned(),
        }
    }

    fn other_model(&self, made_by: &MadeBy, used: &MadeBy) -> Error {
        let Images { name, column, table, embedding, .. } = self;
        let (old, new) = (&made_by.model, &used.model);
        let start = format!("column \"{column}\" of relation \"{name}\" has embeddings of");
        let anew = match self.relation.has_row_security() {
            false => format!("To embed all of it anew: UPDATE {table} SET {embedding} = NULL, and call again."),
            true => {
                "Row-level security applies to you: only somebody who sees all rows can find out whether any still has \
                 such an embedding, and embed them anew."
                    .to_owned()
            }
        };
        match old == new {
            true => {
                Error::OtherModel { message: format!("{start} other files of model \"{new}\""), hint: anew }
            }
            false => Error::OtherModel {
                message: format!("{start} model \"{old}\", not \"{new}\""),
                hint: format!("Name the old model. {anew}"),
            },
        }
    }
}

/// Writes down what the transaction has to, at its end.
pub fn write_what_is_due() -> Result<()> {
    let all = DUE.take();
    for due in all.iter().filter(|due| due.claim.is_held()) {
        // A table, or the extension, may be gone again.
        if due.relation.name().is_ok() {
            snapshot::with_latest(|| match Open::own(EMBEDDING_COLUMN) {
                Some(table) => roles::as_role(table.owner(), || due.write()),
                None => Ok(()),
            })?;
        }
    }
    Ok(())
}

/// Forgets what a transaction had to write down, which has ended.
pub fn forget_what_is_due() {
    DUE.take();
}

impl Due {
    fn write(&self) -> Result<()> {
        let Due { relation, column, made_by, .. } = self;
        // Where partitions have something else written down, they have no such embeddings any more.
        let sql = "UPDATE susx.embedding_column SET model = $3, model_sha256 = $4 \
                   WHERE embedding_column OPERATOR(pg_catalog.=) $2::pg_catalog.name \
                   AND relation OPERATOR(pg_catalog.=) ANY (ARRAY(\
                   SELECT relid FROM pg_catalog.pg_partition_tree($1) WHERE level OPERATOR(pg_catalog.>) 0)) \
                   AND (model_sha256 OPERATOR(pg_catalog.<>) $4 OR (model_sha256 IS NULL OR $4 IS NULL) \
                   AND model OPERATOR(pg_catalog.<>) $3)";
        let upsert = "INSERT INTO susx.embedding_column AS e (relation, embedding_column, model, model_sha256) \
                      VALUES ($1, $2::pg_catalog.name, $3, $4) ON CONFLICT (relation, embedding_column) \
                      DO UPDATE SET model = excluded.model, model_sha256 = excluded.model_sha256 \
                      WHERE e.model_sha256 OPERATOR(pg_catalog.<>) excluded.model_sha256 \
                      OR (e.model_sha256 IS NULL OR excluded.model_sha256 IS NULL) \
                      AND e.model OPERATOR(pg_catalog.<>) excluded.model";
        for sql in [sql, upsert] {
            let (column, model) = (column.clone(), made_by.model.clone());
            write(sql, &[arg(*relation), arg(column), arg(model), arg(made_by.sha256.clone())])?;
        }
        Ok(())
    }
}

/// An error if a pool's embeddings are known not to be of the classifier's model.
pub fn check_pool(pool: RegClass, column: &str, classifier: RegClass, settings: &Settings) -> Result<()> {
    let (Some(made_by), Some(model)) = (MadeBy::of(pool, column)?, settings.model.clone()) else {
        return Ok(());
    };
    let used = MadeBy { model, sha256: settings.model_sha256.clone() };
    if made_by.goes_with(&used) {
        return Ok(());
    }
    let (old, new) = (&made_by.model, &used.model);
    let start = format!("column \"{column}\" of relation \"{}\" has embeddings of", pool.name()?);
    let classifier = classifier.name()?;
    let message = match old == new {
        true => {
            format!("{start} other files of model \"{new}\" than classifier \"{classifier}\" was made with")
        }
        false => format!("{start} model \"{old}\", and classifier \"{classifier}\" is of model \"{new}\""),
    };
    Err(Error::OtherModel {
        message,
        hint: "To embed the images anew, set their embeddings to NULL and call susx.embed_table; to embed the \
               classifier anew, call susx.alter_classifier(classifier, model => '...') and set its embeddings to NULL."
            .to_owned(),
    })
}

impl Made {
    /// Whether the model of that name was made of other files.
    pub fn by_other_files(&self, model: &Model) -> bool {
        self.model == model.name && model.sha256.is_some_and(|loaded| loaded[..] != self.sha256[..])
    }

    /// The classifiers that the caller may read.
    pub fn classifiers() -> Result<Vec<Made>> {
        Made::read("classifier::pg_catalog.text", "susx.classifier")
    }

    /// The columns of embeddings that the caller may read.
    pub fn columns() -> Result<Vec<Made>> {
        let name =
            "pg_catalog.concat(relation::pg_catalog.text, '.', pg_catalog.quote_ident(embedding_column))";
        Made::read(name, "susx.embedding_column")
    }

    fn read(name: &str, table: &str) -> Result<Vec<Made>> {
        let sql = format!(
            "SELECT model, model_sha256, pg_catalog.string_agg({name}, ', ' ORDER BY {name}) FROM {table} \
             WHERE model IS NOT NULL AND model_sha256 IS NOT NULL GROUP BY model, model_sha256 ORDER BY 3"
        );
        let mut found = Vec::new();
        spi::read(&sql, &[], |row| {
            found.push(Made { model: row.required(1)?, sha256: row.required(2)?, names: row.required(3)? });
            Ok(true)
        })?;
        Ok(found)
    }
}
