//! The column of a pool that has the likeness vectors of a classifier.

use std::collections::HashSet;

use pgrx::PgSqlErrorCode;
use pgrx::spi::{quote_identifier, quote_literal};

use super::super::as_owner::as_owner;
use super::super::column::Column;
use super::{EMBEDDING_COLUMN, Provenance, check_likeness, shards};
use crate::pg::catalog::classifier::Settings;
use crate::pg::embedding_model::EmbeddingModel;
use crate::pg::error::{Result, SqlError};
use crate::pg::regclass::RegClass;
use crate::pg::spi::operators::EQ;
use crate::pg::spi::{self, arg};

/// Why no column can be taken.
#[derive(Debug, thiserror::Error)]
enum LikenessColumnError {
    #[error(
        "relation \"{pool}\" has no column with embeddings of model \"{model}\", which the classifier uses to compare \
         images"
    )]
    None { pool: String, model: String },
    #[error(
        "relation \"{pool}\" has {} columns with embeddings of model \"{model}\", which the classifier uses to compare \
         images: {}",
        columns.len(), columns.join(", ")
    )]
    Several { pool: String, model: String, columns: Vec<String> },
}

impl SqlError for LikenessColumnError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            LikenessColumnError::None { pool, model } => format!(
                "Embed the images with that model, too: CALL susx.embed_table({}, embedding_column => 'likeness', \
                 model => {}), where likeness is a further column of type vector. Or name the column with \
                 likeness_column => '...'.",
                quote_literal(quote_identifier(pool)),
                quote_literal(model)
            ),
            LikenessColumnError::Several { .. } => "Name one with likeness_column => '...'.".to_owned(),
        })
    }
}

/// The column of a pool that has the likeness vectors of a classifier with these settings: the named one, else the one that
/// the classifier's likeness model has made; `None` if it has no such model. An error if the column is known to be of another
/// model, or if there is none. The caller must be allowed to read the pool.
pub fn pool_likeness(
    pool: RegClass,
    named: Option<&str>,
    classifier: RegClass,
    settings: &Settings,
) -> Result<Option<String>> {
    match (named, settings.likeness_model(&classifier.name()?)) {
        (Some(column), _) => {
            check_likeness(pool, column, classifier, settings)?;
            Ok(Some(column.to_owned()))
        }
        (None, Some(model)) => likeness_column(pool, model).map(Some),
        (None, None) => Ok(None),
    }
}

/// Like [`pool_likeness`], but `None`, too, if no column is known to be of the classifier's likeness model.
pub fn table_likeness(
    table: RegClass,
    named: Option<&str>,
    classifier: RegClass,
    settings: &Settings,
) -> Result<Option<String>> {
    match (named, settings.likeness_model(&classifier.name()?)) {
        (None, Some(model)) => {
            let (columns, model) = likeness_columns(table, model)?;
            if columns.is_empty() { Ok(None) } else { only(table, columns, model).map(Some) }
        }
        _ => pool_likeness(table, named, classifier, settings),
    }
}

/// The only column of a pool whose embeddings are known to be those of the model; an error if there is no such column, or
/// several. The caller must be allowed to read the pool.
fn likeness_column(pool: RegClass, model: EmbeddingModel) -> Result<String> {
    let (columns, model) = likeness_columns(pool, model)?;
    only(pool, columns, model)
}

fn only(pool: RegClass, mut columns: Vec<String>, model: String) -> Result<String> {
    let pool = pool.name()?;
    match columns.len() {
        0 => Err(LikenessColumnError::None { pool, model }.into()),
        1 => Ok(columns.swap_remove(0)),
        _ => Err(LikenessColumnError::Several { pool, model, columns }.into()),
    }
}

/// The columns of a pool whose embeddings are known to be those of the model, and the model's name.
fn likeness_columns(pool: RegClass, model: EmbeddingModel) -> Result<(Vec<String>, String)> {
    let used = Provenance { model: model.name, sha256: model.sha256 };
    // A record of the relation itself comes before one of a table that it is a part of.
    let sql = format!(
        "SELECT embedding_column::pg_catalog.text, model, model_sha256 FROM susx.embedding_column \
         WHERE relation {EQ} ANY (ARRAY(SELECT $1 UNION ALL \
         SELECT relid FROM pg_catalog.pg_partition_ancestors($1))) \
         ORDER BY relation {EQ} $1 DESC, embedding_column"
    );
    let (mut seen, mut found): (HashSet<String>, Vec<String>) = (HashSet::new(), Vec::new());
    as_owner(EMBEDDING_COLUMN, || {
        spi::read(&sql, &[arg(pool)], |row| {
            let column: String = row.required(1)?;
            let recorded = Provenance { model: row.required(2)?, sha256: row.get(3)? };
            if seen.insert(column.clone()) && recorded.is_comparable_with(&used) {
                found.push(column);
            }
            Ok(true)
        })
    })?;
    let on_nodes = shards::records(pool)?;
    let is_of_model = |column: &str| {
        on_nodes.iter().filter(|(of, _)| of == column).all(|(_, recorded)| recorded.is_comparable_with(&used))
    };
    for (column, _) in &on_nodes {
        if seen.insert(column.clone()) && is_of_model(column) {
            found.push(column.clone());
        }
    }
    // A record stays when its column is dropped or gets another name.
    let mut columns = Vec::new();
    for column in found {
        if Column::exists(pool, &column)? {
            columns.push(column);
        }
    }
    Ok((columns, used.model))
}
