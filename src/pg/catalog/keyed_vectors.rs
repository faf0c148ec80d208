//! Tables of vectors whose rows have a key.

use pgrx::PgSqlErrorCode;
use pgrx::spi::quote_literal;

use super::column::Column;
use super::key;
use super::session_settings::{EXACT_TEXT, with_settings};
use super::vector_index::{self, IndexOrder};
use crate::pg::error::{Error, Result, SqlError};
use crate::pg::extensions::halfvec_type;
use crate::pg::regclass::RegClass;
use crate::pg::spi::operators::EQ;
use crate::pg::spi::{self, Row, arg, first};
use crate::pg::vector::Vector;

/// No row of a table has an embedding.
#[derive(Debug, thiserror::Error)]
#[error("0 of {rows} rows of {table} have {what}")]
struct NoImages {
    rows: i64,
    table: String,
    what: &'static str,
    /// The call that embeds them.
    call: String,
}

impl SqlError for NoImages {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
    }

    fn hint(&self) -> Option<String> {
        Some(format!("Nothing was changed. Embed the images first: {}", self.call))
    }
}

/// A table, its columns checked and quoted. Its images are the rows with both a key and an embedding.
#[derive(Debug)]
pub struct KeyedVectors {
    table: String,
    /// The key as text, an expression of a row `p`.
    key: String,
    /// Whether a row has both, an expression of `p`.
    is_image: String,
    /// Whether the key may be NULL.
    needs_key: bool,
    /// The name of the column of embeddings.
    column: String,
    /// The same, quoted.
    embedding: String,
    /// Whether the embeddings are of type halfvec.
    is_half: bool,
    likeness: Option<String>,
    /// How an index on the column of embeddings orders; `None` without an index.
    order: Option<IndexOrder>,
    /// Whether there can be one.
    can_have_index: bool,
}

/// What is read of an image.
#[derive(Debug)]
pub struct KeyedVector {
    pub key: String,
    pub embedding: Vector,
    /// Where there is a column of these, and the image has one.
    pub likeness: Option<Vector>,
}

impl KeyedVectors {
    /// Checks the columns. The key is the column of that name or, without a name, the primary key, of any number of columns,
    /// as `susx.errors` writes it. The table has been opened for reading.
    pub fn open(relation: RegClass, embedding_column: &str, key_column: Option<&str>) -> Result<Self> {
        let vectors = Column::of_vectors(relation, embedding_column)?;
        let (is_half, embedding) = (vectors.base == halfvec_type(), vectors.quoted);
        let name = match key_column {
            Some(name) => Some(name.to_owned()),
            None => primary_key(relation)?,
        };
        let (key, has_key) = match name {
            Some(name) => {
                let column = Column::open(relation, &name)?.quoted;
                (format!("p.{column}::pg_catalog.text"), format!(" AND p.{column} IS NOT NULL"))
            }
            None => (key::text("p", &key::of(relation).map_err(name_a_column)?), String::new()),
        };
        Ok(KeyedVectors {
            table: relation.quoted()?,
            is_image: format!("p.{embedding} IS NOT NULL{has_key}"),
            key,
            order: vector_index::order(relation, embedding_column)?,
            can_have_index: relation.can_have_indexes(),
            needs_key: key_column.is_some() && primary_key(relation)?.as_deref() != key_column,
            column: embedding_column.to_owned(),
            embedding,
            is_half,
            likeness: None,
        })
    }

    /// The same images with their likeness vectors, from a column that is quoted.
    pub fn with_likeness(self, likeness: &str) -> Self {
        KeyedVectors { likeness: Some(likeness.to_owned()), ..self }
    }

    /// pgvector's operator by which an index orders; `None` without an index.
    pub fn operator(&self) -> Option<&str> {
        self.order.as_ref().map(|order| &*order.operator)
    }

    /// The table, quoted, and the name of its column of embeddings, for messages.
    pub fn names(&self) -> (&str, &str) {
        (&self.table, &self.column)
    }

    /// The statement that creates an index; `None` if the relation, as a view, can have none.
    pub fn create_index(&self) -> Option<String> {
        let KeyedVectors { table, embedding, .. } = self;
        let order = if self.is_half { "halfvec_cosine_ops" } else { "vector_cosine_ops" };
        self.can_have_index.then(|| format!("CREATE INDEX ON {table} USING hnsw ({embedding} {order});"))
    }

    /// An error if there is no image.
    pub fn check_has_images(&self) -> Result<()> {
        let sql = format!("SELECT true FROM {} p WHERE {} LIMIT 1", self.table, self.is_image);
        if first::<bool>(&sql, &[])?.is_some() {
            return Ok(());
        }
        let rows = first::<i64>(&format!("SELECT pg_catalog.count(*) FROM {}", self.table), &[])?;
        let table = quote_literal(&self.table);
        let call = match &*self.column {
            "embedding" => format!("CALL susx.embed_table({table});"),
            column => {
                format!("CALL susx.embed_table({table}, embedding_column => {});", quote_literal(column))
            }
        };
        let what = if self.needs_key { "a key and an embedding" } else { "an embedding" };
        Err(NoImages { rows: rows.unwrap_or(0), table: self.table.clone(), what, call }.into())
    }

    /// The number of images.
    pub fn count(&self) -> Result<u64> {
        let sql = format!("SELECT pg_catalog.count(*) FROM {} p WHERE {}", self.table, self.is_image);
        Ok(first::<i64>(&sql, &[])?.map_or(0, i64::unsigned_abs))
    }

    /// Passes every image to `each`.
    pub fn read(&self, mut each: impl FnMut(KeyedVector) -> Result<()>) -> Result<()> {
        let sql = self.select();
        with_settings(&EXACT_TEXT, || spi::read(&sql, &[], |row| self.pass(row, &mut each)))
    }

    /// Passes up to `limit` images from the index to `each`, those nearest to `query` first.
    pub fn nearest(
        &self,
        query: &[f32],
        limit: usize,
        mut each: impl FnMut(KeyedVector) -> Result<()>,
    ) -> Result<()> {
        let Some(IndexOrder { operator, operand }) = &self.order else {
            return Err(Error::internal("the table has no index"));
        };
        let sql =
            format!("{} ORDER BY p.{} {operator} $1::{operand} LIMIT $2", self.select(), self.embedding);
        let args = [arg(Vector(query.to_vec())), arg(i64::try_from(limit).unwrap_or(i64::MAX))];
        with_settings(&EXACT_TEXT, || spi::read(&sql, &args, |row| self.pass(row, &mut each)))
    }

    fn select(&self) -> String {
        let KeyedVectors { table, key, is_image, embedding, likeness, .. } = self;
        let likeness = likeness.as_ref().map_or(String::new(), |likeness| format!(", p.{likeness}"));
        format!("SELECT {key}, p.{embedding}{likeness} FROM {table} p WHERE {is_image}")
    }

    fn pass(&self, row: &Row, each: &mut impl FnMut(KeyedVector) -> Result<()>) -> Result<bool> {
        let key = row.required_text(1, "the key of an image of the pool")?;
        let likeness = if self.likeness.is_some() { row.vector(3)? } else { None };
        each(KeyedVector { key, embedding: row.required_vector(2)?, likeness })?;
        Ok(true)
    }
}

/// The name of a primary key's only column; `None` if there is no such key.
pub(super) fn primary_key(relation: RegClass) -> Result<Option<String>> {
    let sql = format!(
        "SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a \
         ON a.attrelid {EQ} i.indrelid AND a.attnum {EQ} i.indkey[0] \
         WHERE i.indrelid {EQ} $1 AND i.indisprimary AND i.indnkeyatts {EQ} 1"
    );
    first(&sql, &[arg(relation.0)])
}

/// The error that a table has no primary key, with what can be done here.
fn name_a_column(error: Error) -> Error {
    error.with_hint("Name a unique column with key_column => '…'.")
}
