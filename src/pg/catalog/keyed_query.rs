//! Keyed queries: SQL that the caller wrote, whose rows are a key and an image or an embedding, perhaps with a likeness
//! vector.

use pgrx::{PgSqlErrorCode, pg_sys};

use super::input::{InputKind, InputValue, check_likeness};
use super::vector_hint;
use crate::limits;
use crate::pg::any::AnyValue;
use crate::pg::error::{Result, SqlError};
use crate::pg::spi::{Columns, Cursor, Row};
use crate::pg::types::{base_type, type_name};
use crate::pg::vector::Vector;

/// A query of this kind.
const EXAMPLE: &str = "SELECT id, embedding FROM images";

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
    /// The row's current label, where the query may give one.
    pub label: Option<String>,
}

/// A keyed query that is open.
#[derive(Debug)]
pub struct KeyedQuery {
    cursor: Cursor,
    key: Key,
    columns: KeyedInputs,
    expected_rows: Option<u64>,
}

/// How keys are read.
#[derive(Clone, Copy, Debug)]
enum Key {
    /// Values of this type, passed through as they are.
    OfType(pg_sys::Oid),
    /// From smallint to bigint.
    WidenedSmallint,
    /// From integer to bigint.
    WidenedInteger,
}

impl Key {
    /// Keys of the type `found`, where the call has `expected`; `None` if one cannot be the other.
    fn of(found: pg_sys::Oid, expected: pg_sys::Oid) -> Option<Key> {
        match (base_type(found), expected) {
            (pg_sys::INT2OID, pg_sys::INT8OID) => Some(Key::WidenedSmallint),
            (pg_sys::INT4OID, pg_sys::INT8OID) => Some(Key::WidenedInteger),
            // SAFETY: both OIDs are of types that exist.
            _ => unsafe { pg_sys::IsBinaryCoercible(found, expected) }.then_some(Key::OfType(found)),
        }
    }

    fn read(self, row: &Row) -> Result<Option<AnyValue>> {
        Ok(match self {
            Key::OfType(key_type) => row.any(1, key_type),
            Key::WidenedSmallint => row.get::<i16>(1)?.map(|key| AnyValue::of_bigint(key.into())),
            Key::WidenedInteger => row.get::<i32>(1)?.map(|key| AnyValue::of_bigint(key.into())),
        })
    }
}

/// What the columns after the key hold.
#[derive(Clone, Copy, Debug)]
struct KeyedInputs {
    kind: InputKind,
    has_likeness: bool,
    /// The column of labels, counted from 1.
    label: Option<i32>,
    /// Whether labels are padded with blanks.
    is_padded: bool,
}

/// Whether a query may have a column of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Labels {
    No,
    Allowed,
}

impl KeyedQuery {
    /// Opens a query with the snapshot of the running statement and the caller's rights. An error unless its columns
    /// are a key, binary coercible to `key_type` or a smaller integer, an image or an embedding and, beside an embedding, perhaps a likeness
    /// vector.
    pub fn open(query: &str, key_type: pg_sys::Oid) -> Result<Self> {
        Self::open_as(query, key_type, Labels::No)
    }

    /// The same, where the last column may be the current label of each row, of any other type than vector and bytea.
    pub fn open_with_labels(query: &str, key_type: pg_sys::Oid) -> Result<Self> {
        Self::open_as(query, key_type, Labels::Allowed)
    }

    fn open_as(query: &str, key_type: pg_sys::Oid, labels: Labels) -> Result<Self> {
        let (cursor, ((key, columns), expected_rows)) = Cursor::open(query, EXAMPLE, |columns| {
            Ok((check(columns, key_type, labels)?, columns.expected_rows()))
        })?;
        Ok(KeyedQuery { cursor, key, columns, expected_rows })
    }

    /// What the second column holds.
    pub fn kind(&self) -> InputKind {
        self.columns.kind
    }

    /// Whether the query gives labels.
    pub fn has_labels(&self) -> bool {
        self.columns.label.is_some()
    }

    /// The number of rows that the planner expects; `None` for a statement without a plan.
    pub fn expected_rows(&self) -> Option<u64> {
        self.expected_rows
    }

    /// Passes up to `most` of the next rows to `each`. Returns how many there were.
    pub fn fetch(&self, most: usize, mut each: impl FnMut(KeyedRow) -> Result<()>) -> Result<usize> {
        let KeyedInputs { kind, has_likeness, label, is_padded } = self.columns;
        self.cursor.fetch(most, |row| {
            let input = InputValue::read(row, 2, kind)?;
            let likeness = if has_likeness { row.vector(3)? } else { None };
            let mut label = match label {
                Some(column) => {
                    limits::check_bytes("a label", limits::TEXT_BYTES, row.size(column))?;
                    row.text(column)?
                }
                None => None,
            };
            if let (Some(label), true) = (&mut label, is_padded) {
                label.truncate(label.trim_end_matches(' ').len());
            }
            each(KeyedRow { key: self.key.read(row)?, input, likeness, label })
        })
    }
}

fn check(columns: &Columns, key_type: pg_sys::Oid, labels: Labels) -> Result<(Key, KeyedInputs)> {
    let example = || format!("Example: '{EXAMPLE}'.");
    let (most, more) = match labels {
        Labels::No => (3, ", or a third, a likeness vector"),
        Labels::Allowed => (4, ", perhaps a likeness vector, and perhaps a label"),
    };
    if !(2..=most).contains(&columns.count()) {
        return Err(KeyedColumns {
            message: format!(
                "the query must have two columns, a key and an image or embedding{more}, not {}",
                columns.count()
            ),
            hint: example(),
        }
        .into());
    }
    let found = columns.type_oid(1);
    let Some(key) = Key::of(found, key_type) else {
        let (found, expected) = (type_name(found), type_name(key_type));
        return Err(KeyedColumns {
            message: format!("the key is of type {found} in the query, but of type {expected} in the call"),
            hint: format!("Name the key's type in the call: key => NULL::{found}."),
        }
        .into());
    };
    let bad = |message: String| KeyedColumns { message, hint: example() };
    let kind = InputKind::of_type(columns.type_oid(2)).ok_or_else(|| {
        let found = type_name(columns.type_oid(2));
        let message = format!("the second column of the query must be of type bytea or vector, not {found}");
        KeyedColumns { message, hint: vector_hint::of_query(columns.type_oid(2)).unwrap_or_else(example) }
    })?;
    let count = columns.count();
    let is_label = |column: i32| InputKind::of_type(columns.type_oid(column)).is_none();
    let label = (labels == Labels::Allowed && count > 2 && is_label(count)).then_some(count);
    let others = count - i32::from(label.is_some());
    if others > 3 {
        return Err(
            bad("the last column of the query must be a label, not a vector or an image".to_owned()).into()
        );
    }
    if others == 3 {
        check_likeness(kind, columns.type_oid(3))
            .map_err(|reason| bad(format!("the third column of the query {reason}")))?;
    }
    let is_padded = label.is_some_and(|column| base_type(columns.type_oid(column)) == pg_sys::BPCHAROID);
    Ok((key, KeyedInputs { kind, has_likeness: others == 3, label, is_padded }))
}
