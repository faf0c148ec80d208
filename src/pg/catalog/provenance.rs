//! `susx.embedding_column`: which model made the embeddings of a table of images.
//!
//! A vector does not tell which model made it, and vectors of different models cannot be compared. So the first call
//! that embeds a table records the model and the digest of its files. As long as the column has embeddings, it is an
//! error to add those of another model, or to retrieve a support set from them for a classifier of another model.

mod assign;
mod likeness_column;
mod model_use;
mod pending;
mod shards;

use std::ffi::CStr;

use pgrx::{PgSqlErrorCode, pg_sys};

use super::as_owner::as_owner;
use super::classifier::Settings;
use crate::pg::embedding_model::{EmbeddingModel, EmbeddingOwner};
use crate::pg::error::{Result, SqlError};
use crate::pg::regclass::RegClass;
use crate::pg::spi::operators::{EQ, GT};
use crate::pg::spi::{self, arg};
pub use likeness_column::{pool_likeness, table_likeness};
pub use model_use::ModelUse;
pub use pending::{forget_pending, write_pending};

/// Embeddings cannot be compared, because they come from different models.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct OtherModel {
    message: String,
    hint: String,
}

impl SqlError for OtherModel {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
    }

    fn hint(&self) -> Option<String> {
        Some(self.hint.clone())
    }
}

/// The name of the table.
const EMBEDDING_COLUMN: &CStr = c"embedding_column";

/// The model that made embeddings: its name and, where that is known, the digest of its files.
#[derive(Clone, Debug)]
struct Provenance {
    model: String,
    sha256: Option<Vec<u8>>,
}

impl Provenance {
    /// The record of a column, or of the same column of a partitioned table that the relation is a part of.
    fn of(relation: RegClass, column: &str) -> Result<Option<Provenance>> {
        let sql = format!(
            "SELECT model, model_sha256 FROM susx.embedding_column \
             WHERE embedding_column {EQ} $2::pg_catalog.name \
             AND relation {EQ} ANY (ARRAY(SELECT $1 UNION ALL \
             SELECT relid FROM pg_catalog.pg_partition_ancestors($1))) \
             ORDER BY relation {EQ} $1 DESC LIMIT 1"
        );
        Ok(Provenance::read(&sql, relation, column)?.pop())
    }

    /// The records of the relation's partitions; none if it is not partitioned.
    fn of_partitions(relation: RegClass, column: &str) -> Result<Vec<Provenance>> {
        // SAFETY: a look-up for any OID.
        if unsafe { pg_sys::get_rel_relkind(relation.0) } as u8 != pg_sys::RELKIND_PARTITIONED_TABLE {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT DISTINCT model, model_sha256 FROM susx.embedding_column \
             WHERE embedding_column {EQ} $2::pg_catalog.name AND relation {EQ} ANY ({})",
            partitions()
        );
        Provenance::read(&sql, relation, column)
    }

    /// Reads records as the owner of susx.embedding_column. Callers who cannot see a table's record, because row-level
    /// security applies to them, must not mix embeddings either.
    fn read(sql: &str, relation: RegClass, column: &str) -> Result<Vec<Provenance>> {
        let mut found = Vec::new();
        as_owner(EMBEDDING_COLUMN, || {
            spi::read(sql, &[arg(relation), arg(column.to_owned())], |row| {
                found.push(Provenance { model: row.required(1)?, sha256: row.get(2)? });
                Ok(true)
            })
        })?;
        Ok(found)
    }

    /// Whether embeddings of both can be compared. The digests decide, since the same files may have got another name;
    /// where one is not known, the names do.
    fn is_comparable_with(&self, other: &Provenance) -> bool {
        match (&self.sha256, &other.sha256) {
            (Some(one), Some(another)) => one == another,
            _ => self.model == other.model,
        }
    }
}

/// The array of the partitions of the table in the first argument.
fn partitions() -> String {
    format!("ARRAY(SELECT relid FROM pg_catalog.pg_partition_tree($1) WHERE level {GT} 0)")
}

/// An error if a pool's embeddings are known to be those of another model than the classifier's.
pub fn check_pool(pool: RegClass, column: &str, classifier: RegClass, settings: &Settings) -> Result<()> {
    match settings.embedding_model(&classifier.name()?) {
        Ok(model) => check(pool, column, model),
        Err(_) => Ok(()),
    }
}

/// An error if a pool's likeness vectors are known to be those of another model than the classifier's.
fn check_likeness(pool: RegClass, column: &str, classifier: RegClass, settings: &Settings) -> Result<()> {
    match settings.likeness_model(&classifier.name()?) {
        Some(model) => check(pool, column, model),
        None => Ok(()),
    }
}

/// An error if the column of a pool is known to have embeddings of another model.
fn check(pool: RegClass, column: &str, model: EmbeddingModel) -> Result<()> {
    let (owner, used) = (model.owner, Provenance { model: model.name, sha256: model.sha256 });
    let on_nodes =
        shards::records(pool)?.into_iter().filter(|(of, _)| of == column).map(|(_, record)| record);
    let mut records = Provenance::of(pool, column)?.into_iter().chain(on_nodes);
    let Some(recorded) = records.find(|recorded| !recorded.is_comparable_with(&used)) else { return Ok(()) };
    let (old, new) = (&recorded.model, &used.model);
    let start = format!("column \"{column}\" of relation \"{}\" has embeddings of", pool.name()?);
    let message = match (old == new, &owner) {
        (true, _) => format!("{start} other files of model \"{new}\" than {owner} made with"),
        (false, EmbeddingOwner::Likeness(classifier)) => format!(
            "{start} model \"{old}\", and the likeness vectors of classifier \"{classifier}\" are of model \"{new}\""
        ),
        (false, EmbeddingOwner::Classifier(classifier)) => {
            format!("{start} model \"{old}\", and classifier \"{classifier}\" is of model \"{new}\"")
        }
        (false, EmbeddingOwner::Column { .. }) => format!("{start} model \"{old}\", not \"{new}\""),
    };
    let images = "To embed the images again, set their embeddings to NULL and call susx.embed_table";
    let hint = match owner {
        EmbeddingOwner::Likeness(_) => format!(
            "{images}; to compare images with another model, call susx.alter_classifier(classifier, likeness_model => \
             '...')."
        ),
        _ => format!(
            "{images}; to embed the classifier again, call susx.alter_classifier(classifier, model => '...') and set \
             its embeddings to NULL."
        ),
    };
    Err(OtherModel { message, hint }.into())
}
