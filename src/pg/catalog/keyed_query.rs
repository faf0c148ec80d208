//! Keyed queries: SQL that the caller wrote, whose rows are a key and an image or an embedding.

use pgrx::{PgSqlErrorCode, pg_sys};

use super::input::{InputKind, InputValue};
use crate::pg::any::AnyValue;
use crate::pg::error::{Result, SqlError};
use crate::pg::spi::{Columns, Cursor};
use crate::pg::types::type_name;

/// The columns of a keyed query are wrong.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct KeyedColumns {
    message: String,
    hint: String,
}

impl SqlError for KeyedColumns {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH
    }

    fn hint(&self) -> Option<String> {
        Some(self.hint.clone())
    }
}

/// A row of a keyed query.
#[derive(Debug)]
pub struct KeyedRow {
    /// `None` for NULL, as below.
    pub key: Option<AnyValue>,
    pub input: Option<InputValue>,
}

/// A keyed query that is open.
#[derive(Debug)]
pub struct KeyedQuery {
    cursor: Cursor,
    key_type: pg_sys::Oid,
    kind: InputKind,
    expected_rows: Option<u64>,
}

impl KeyedQuery {
    /// Opens a query with the snapshot of the running statement and the caller's rights. An error unless its columns
    /// are a key, binary coercible to `key_type`, and an image or an embedding.
    pub fn open(query: &str, key_type: pg_sys::Oid) -> Result<Self> {
        let (cursor, (kind, key_type, expected_rows)) = Cursor::open(query, |columns| {
            let kind = check(columns, key_type)?;
            Ok((kind, columns.type_oid(1), columns.expected_rows()))
        })?;
        Ok(KeyedQuery { cursor, key_type, kind, expected_rows })
    }

    /// What the second column holds.
    pub fn kind(&self) -> InputKind {
        self.kind
    }

    /// The number of rows that the planner expects; `None` for a statement without a plan.
    pub fn expected_rows(&self) -> Option<u64> {
        self.expected_rows
    }

    /// Passes up to `most` of the next rows to `each`. Returns how many there were.
    pub fn fetch(&self, most: usize, mut each: impl FnMut(KeyedRow) -> Result<()>) -> Result<usize> {
        self.cursor.fetch(most, |row| {
            let input = InputValue::read(row, 2, self.kind)?;
            each(KeyedRow { key: row.any(1, self.key_type), input })
        })
    }
}

fn check(columns: &Columns, key_type: pg_sys::Oid) -> Result<InputKind> {
    let example = || "A query is such as 'SELECT id, embedding FROM images'.".to_owned();
    if columns.count() != 2 {
        return Err(KeyedColumns {
            message: format!(
                "the query must have two columns, a key and an image or embedding, not {}",
                columns.count()
            ),
            hint: example(),
        }
        .into());
    }
    let found = columns.type_oid(1);
    // SAFETY: both OIDs are of types that exist.
    if !unsafe { pg_sys::IsBinaryCoercible(found, key_type) } {
        let (found, expected) = (type_name(found), type_name(key_type));
        return Err(KeyedColumns {
            message: format!("the key is of type {found} in the query, but of type {expected} in the call"),
            hint: format!("Name the key's type in the call: key => NULL::{found}."),
        }
        .into());
    }
    InputKind::of_type(columns.type_oid(2)).ok_or_else(|| {
        let found = type_name(columns.type_oid(2));
        let message = format!("the second column of the query must be of type bytea or vector, not {found}");
        KeyedColumns { message, hint: example() }.into()
    })
}
