//! Keyed queries: SQL that the caller wrote, whose rows are a key and an image or an embedding, perhaps with a likeness
//! vector.

use pgrx::{PgSqlErrorCode, pg_sys};

use super::input::{InputKind, InputValue, check_likeness};
use crate::pg::any::AnyValue;
use crate::pg::error::{Result, SqlError};
use crate::pg::spi::{Columns, Cursor};
use crate::pg::types::type_name;
use crate::pg::vector::Vector;

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
    pub likeness: Option<Vector>,
}

/// A keyed query that is open.
#[derive(Debug)]
pub struct KeyedQuery {
    cursor: Cursor,
    key_type: pg_sys::Oid,
    kind: InputKind,
    has_likeness: bool,
    expected_rows: Option<u64>,
}

impl KeyedQuery {
    /// Opens a query with the snapshot of the running statement and the caller's rights. An error unless its columns
    /// are a key, binary coercible to `key_type`, an image or an embedding and, beside an embedding, perhaps a likeness
    /// vector.
    pub fn open(query: &str, key_type: pg_sys::Oid) -> Result<Self> {
        let (cursor, (kind, has_likeness, key_type, expected_rows)) = Cursor::open(query, |columns| {
            let kind = check(columns, key_type)?;
            Ok((kind, columns.count() == 3, columns.type_oid(1), columns.expected_rows()))
        })?;
        Ok(KeyedQuery { cursor, key_type, kind, has_likeness, expected_rows })
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
            let likeness = if self.has_likeness { row.get(3)? } else { None };
            each(KeyedRow { key: row.any(1, self.key_type), input, likeness })
        })
    }
}

fn check(columns: &Columns, key_type: pg_sys::Oid) -> Result<InputKind> {
    let example = || "A query is such as 'SELECT id, embedding FROM images'.".to_owned();
    if !(2..=3).contains(&columns.count()) {
        return Err(KeyedColumns {
            message: format!(
                "the query must have two columns, a key and an image or embedding, or a third, a likeness vector, not {}",
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
    let bad = |message: String| KeyedColumns { message, hint: example() };
    let kind = InputKind::of_type(columns.type_oid(2)).ok_or_else(|| {
        let found = type_name(columns.type_oid(2));
        bad(format!("the second column of the query must be of type bytea or vector, not {found}"))
    })?;
    if columns.count() == 3 {
        check_likeness(kind, columns.type_oid(3))
            .map_err(|reason| bad(format!("the third column of the query {reason}")))?;
    }
    Ok(kind)
}
