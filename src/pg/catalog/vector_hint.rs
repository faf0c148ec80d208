//! What to do about a column that should hold vectors, and does not.

use pgrx::pg_sys;

use super::column::Column;
use crate::pg::error::Result;
use crate::pg::regclass::RegClass;
use crate::pg::types::{base_type, type_name};

/// How the numbers of a type become a vector.
enum Conversion {
    /// By a cast, of arrays of numbers and of sparsevec.
    Cast,
    /// A bit string has lost its numbers.
    Lost,
    Unknown,
}

fn conversion(type_oid: pg_sys::Oid) -> Conversion {
    match base_type(type_oid) {
        pg_sys::FLOAT4ARRAYOID | pg_sys::FLOAT8ARRAYOID | pg_sys::INT4ARRAYOID | pg_sys::NUMERICARRAYOID => {
            Conversion::Cast
        }
        pg_sys::BITOID | pg_sys::VARBITOID => Conversion::Lost,
        // pgvector's schema may come first in the name.
        base if type_name(base).rsplit('.').next() == Some("sparsevec") => Conversion::Cast,
        _ => Conversion::Unknown,
    }
}

/// For a column of a query.
pub(super) fn of_query(type_oid: pg_sys::Oid) -> Option<String> {
    match conversion(type_oid) {
        Conversion::Cast => {
            Some("Embeddings are of type vector or halfvec. Cast them: embedding::vector.".to_owned())
        }
        Conversion::Lost => Some(LOST.to_owned()),
        Conversion::Unknown => None,
    }
}

const LOST: &str = "Embeddings are of type vector or halfvec. A bit string holds no numbers: use the column that it was \
                    made of.";

/// For a column of a table that has another type.
pub(super) fn of_column(relation: RegClass, column: &Column) -> Result<Option<String>> {
    Ok(match conversion(column.base_oid()) {
        Conversion::Cast => Some(format!(
            "Embeddings are of type vector or halfvec: ALTER TABLE {} ALTER COLUMN {2} TYPE vector USING {2}::{1};",
            relation.quoted()?,
            "vector",
            column.quoted
        )),
        Conversion::Lost => Some(LOST.to_owned()),
        Conversion::Unknown => None,
    })
}

/// For a column that does not exist.
pub(super) fn of_missing(relation: RegClass, name: &str) -> Result<String> {
    let found = Column::names_of_vectors(relation)?;
    if !found.is_empty() {
        return Ok(format!("Its columns of vectors are: {}.", found.join(", ")));
    }
    Ok(format!(
        "Add it, with the dimensions that susx.models() shows for your model: ALTER TABLE {} ADD COLUMN {} vector(512);",
        relation.quoted()?,
        pgrx::spi::quote_identifier(name)
    ))
}
