//! `susx.add_embedding_column(...)`: a column for the embeddings of a table of images.

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::inference::client;
use crate::pg::catalog::vector_column::{VectorColumn, add_vector_column};
use crate::pg::error::{Error, Result, SqlError};
use crate::pg::message::warn_with_hint;
use crate::pg::name::Name;
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;

/// The column exists, for embeddings of another size.
#[derive(Debug, thiserror::Error)]
#[error(
    "column \"{column}\" of relation \"{relation}\" has {found} dimensions, but model \"{model}\" makes {expected}"
)]
struct OtherDimensions {
    relation: String,
    column: String,
    model: String,
    found: usize,
    expected: usize,
}

impl SqlError for OtherDimensions {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_DUPLICATE_COLUMN
    }

    fn hint(&self) -> Option<String> {
        Some(
            "Use another column with embedding_column => '...', or pass the model of this column.".to_owned(),
        )
    }
}

/// The model does not say how many dimensions its embeddings have.
#[derive(Debug, thiserror::Error)]
#[error("model \"{0}\" does not embed images")]
struct NoDimensions(String);

impl SqlError for NoDimensions {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE
    }
}

/// Adds a column for the embeddings of a model, unless it exists. Returns its type.
#[pg_extern(volatile, parallel_unsafe)]
fn add_embedding_column(
    _version: SameVersion,
    rel: Option<RegClass>,
    embedding_column: default!(Option<Name>, "'embedding'"),
    model: default!(Option<&str>, "NULL"),
) -> Result<String, ErrorReport> {
    let relation = Error::required(rel, "rel")?;
    let Name(column) = Error::required(embedding_column, "embedding_column")?;
    Ok(add(relation, column, model)?)
}

fn add(relation: RegClass, column: String, model: Option<&str>) -> Result<String> {
    let found = VectorColumn::find(relation, &column)?;
    let model = client::describe(model)?;
    let expected = model.dimensions.map(|dimensions| dimensions as usize);
    let Some(expected) = expected else { return Err(NoDimensions(model.name).into()) };
    let wanted = format!("vector({expected})");
    match found {
        VectorColumn::Missing => {
            add_vector_column(relation, &column, expected)?;
            Ok(wanted)
        }
        VectorColumn::OfDimensions(found) if found == expected => Ok(wanted),
        VectorColumn::OfDimensions(found) => {
            let (relation, model) = (relation.name()?, model.name);
            Err(OtherDimensions { relation, column, model, found, expected }.into())
        }
        VectorColumn::OfAnyDimensions => {
            let hint = format!(
                "ALTER TABLE {} ALTER COLUMN {} TYPE {wanted};",
                relation.quoted()?,
                pgrx::spi::quote_identifier(&column)
            );
            let name = relation.name()?;
            warn_with_hint(
                format!(
                    "column \"{column}\" of relation \"{name}\" has no dimensions, so it cannot have an index"
                ),
                hint,
            );
            Ok("vector".to_owned())
        }
    }
}
