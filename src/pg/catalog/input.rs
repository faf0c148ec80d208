//! The inputs of a query that the caller wrote: images or embeddings.

use pgrx::pg_sys;

use crate::pg::error::Result;
use crate::pg::extensions::is_vector_type;
use crate::pg::image::Image;
use crate::pg::spi::Row;
use crate::pg::types::{base_type, type_name};
use crate::pg::vector::Vector;

/// What a query's column of inputs holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    Embedding,
    Image,
}

/// Why a column of that type cannot hold the likeness vectors of such inputs, as the end of a sentence about the column.
pub(super) fn check_likeness(inputs: InputKind, type_oid: pg_sys::Oid) -> Result<(), String> {
    match (inputs, InputKind::of_type(type_oid)) {
        (InputKind::Embedding, Some(InputKind::Embedding)) => Ok(()),
        (InputKind::Image, Some(InputKind::Embedding)) => {
            Err("must not hold likeness vectors beside images, which the classifier's models embed"
                .to_owned())
        }
        _ => Err(format!("must be of type vector, not {}", type_name(type_oid))),
    }
}

/// One value of that column.
#[derive(Debug)]
pub enum InputValue {
    Embedding(Vector),
    Image(Image),
}

impl InputKind {
    /// What a column of that type holds; `None` if neither images nor embeddings.
    pub(super) fn of_type(type_oid: pg_sys::Oid) -> Option<Self> {
        match base_type(type_oid) {
            base if base == pg_sys::BYTEAOID => Some(InputKind::Image),
            base if is_vector_type(base) => Some(InputKind::Embedding),
            _ => None,
        }
    }
}

impl InputValue {
    /// The value of a column, counted from 1; `None` for NULL.
    pub(super) fn read(row: &Row, column: i32, kind: InputKind) -> Result<Option<Self>> {
        Ok(match kind {
            InputKind::Embedding => row.vector(column)?.map(InputValue::Embedding),
            InputKind::Image => row.get(column)?.map(InputValue::Image),
        })
    }
}
