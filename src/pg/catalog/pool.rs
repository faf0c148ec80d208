//! Pools: tables of images with embeddings, from which support sets are retrieved.

use pgrx::prelude::*;
use pgrx::spi::{quote_identifier, quote_literal};

use super::column::Column;
use super::key;
use super::keyed_vectors::{KeyedVectors, primary_key};
use super::session_settings::{EXACT_TEXT, with_settings};
use crate::pg::error::{Error, Result, SqlError};
use crate::pg::regclass::RegClass;
use crate::pg::spi::operators::EQ;
use crate::pg::spi::{self, arg};
use crate::pg::vector::Vector;

/// Chosen images of the pool no longer exist.
#[derive(Debug, thiserror::Error)]
#[error("{expected} images of {pool} were chosen, but only {found} of them still exist")]
struct PoolChanged {
    pool: String,
    expected: usize,
    found: usize,
}

impl SqlError for PoolChanged {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE
    }

    fn hint(&self) -> Option<String> {
        Some(
            "The others were deleted, or their keys were changed. Nothing was written: call again."
                .to_owned(),
        )
    }
}

/// Chosen images of the pool cannot be compared with others.
#[derive(Debug, thiserror::Error)]
#[error("{missing} of {retrieved} retrieved images of {pool} have no likeness vector")]
struct NoLikeness {
    missing: usize,
    retrieved: usize,
    pool: String,
    column: String,
}

impl SqlError for NoLikeness {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
    }

    fn hint(&self) -> Option<String> {
        let NoLikeness { pool, column, .. } = self;
        Some(format!(
            "Nothing was changed. Fill column {column} first: CALL susx.embed_table({}, embedding_column => {}, model \
             => '...'). susx.errors shows the images that it could not embed.",
            quote_literal(quote_identifier(pool)),
            quote_literal(column)
        ))
    }
}

/// A pool, its columns checked and quoted.
#[derive(Debug)]
pub struct Pool {
    relation: RegClass,
    table: String,
    key: String,
    /// The key's type, if pg_catalog's `=` compares its values, and if exact text is read as the same value under all
    /// settings.
    key_type: Option<String>,
    embedding: String,
    image: Option<String>,
    /// The column of likeness vectors that support images get.
    likeness: Option<LikenessColumn>,
    vectors: KeyedVectors,
}

/// A column of likeness vectors.
#[derive(Debug)]
struct LikenessColumn {
    name: String,
    quoted: String,
}

/// An image of a pool that becomes a support image.
#[derive(Debug)]
pub struct RetrievedImage {
    pub category: String,
    pub prompt: Option<String>,
    pub key: String,
    pub similarity: f32,
}

impl Pool {
    /// Checks the table, its columns and the caller's rights. Without a key column, the primary key is taken.
    pub fn open(
        pool: RegClass,
        embedding_column: &str,
        image_column: Option<&str>,
        key_column: Option<&str>,
    ) -> Result<Self> {
        pool.open_for_reading()?;
        let embedding = Column::of_vectors(pool, embedding_column)?;
        let image = image_column.map(|name| Column::of_images(pool, name)).transpose()?;
        let key_column = match key_column {
            Some(name) => name.to_owned(),
            None => required_primary_key(pool)?,
        };
        let key = Column::open(pool, &key_column)?;
        Ok(Pool {
            relation: pool,
            table: pool.quoted()?,
            key_type: key.is_built_in.then(|| key.base_type()).filter(|name| name != key::MONEY),
            key: key.quoted,
            vectors: KeyedVectors::open(pool, embedding_column, Some(&key_column))?,
            embedding: embedding.quoted,
            image: image.map(|image| image.quoted),
            likeness: None,
        })
    }

    /// The same pool, whose images also have likeness vectors. An error if the column does not exist or has another type
    /// than vector.
    pub fn with_likeness(self, likeness_column: &str) -> Result<Self> {
        let quoted = Column::of_vectors(self.relation, likeness_column)?.quoted;
        let vectors = self.vectors.with_likeness(&quoted);
        let likeness = LikenessColumn { name: likeness_column.to_owned(), quoted };
        Ok(Pool { likeness: Some(likeness), vectors, ..self })
    }

    /// Its images.
    pub fn vectors(&self) -> &KeyedVectors {
        &self.vectors
    }

    /// Whether its images have likeness vectors.
    pub fn has_likeness(&self) -> bool {
        self.likeness.is_some()
    }

    /// Copies images into a classifier's table: the key, the embedding, the likeness vector if the pool has these and, if
    /// it was opened with an image column, the image file. Returns each new row's category and similarity. An error
    /// unless the pool has exactly one image for each key, and a likeness vector of each if it has any.
    pub fn copy(&self, classifier: RegClass, images: Vec<RetrievedImage>) -> Result<Vec<(String, f32)>> {
        let sql = self.insertion(&classifier.quoted()?);
        let expected = images.len();
        let (mut categories, mut prompts, mut keys, mut similarities) = (vec![], vec![], vec![], vec![]);
        for image in images {
            categories.push(image.category);
            prompts.push(image.prompt);
            keys.push(image.key);
            similarities.push(image.similarity);
        }
        let insert = || {
            let mut missing = 0;
            let rows = Spi::connect_mut(|client| {
                let args = [arg(categories), arg(prompts), arg(keys), arg(similarities)];
                let mut rows = Vec::new();
                for row in client.update(&sql, None, &args)? {
                    let (category, similarity) = (row.get::<String>(1)?, row.get::<f32>(2)?);
                    rows.push((category.unwrap_or_default(), similarity.unwrap_or_default()));
                    missing += usize::from(row.get::<bool>(3)?.unwrap_or_default());
                }
                Ok::<_, pgrx::spi::Error>(rows)
            })?;
            Ok((rows, missing))
        };
        // With the caller's settings where the key allows it, because triggers of the statement see them.
        let settings = if self.key_type.is_some() { &[][..] } else { &EXACT_TEXT };
        let (rows, missing) = with_settings(settings, insert)?;
        let Pool { table, key, .. } = self;
        match rows.len() {
            found if found > expected => Err(Error::argument(format!(
                "column {key} of {table} is not unique, so it cannot be the key"
            ))),
            found if found < expected => Err(PoolChanged { pool: table.clone(), expected, found }.into()),
            retrieved if missing > 0 => {
                let column = self.likeness.as_ref().map(|likeness| likeness.name.clone()).unwrap_or_default();
                let pool = self.relation.name()?;
                Err(NoLikeness { missing, retrieved, pool, column }.into())
            }
            _ => Ok(rows),
        }
    }

    /// The statement of [`copy`](Self::copy). Its arguments are arrays: categories, prompts, keys, similarities.
    fn insertion(&self, classifier: &str) -> String {
        let Pool { table, key, embedding, key_type, image, likeness, .. } = self;
        let image = image.as_ref().map_or("NULL".to_owned(), |image| format!("p.{image}"));
        // Without likeness vectors the column is not named: the classifier's table may not have it.
        let (column, value, is_missing) = match likeness {
            None => ("", String::new(), "false"),
            Some(LikenessColumn { quoted, .. }) => {
                (", likeness", format!(", p.{quoted}"), "likeness IS NULL")
            }
        };
        let has_key = match key_type {
            Some(key_type) => format!("p.{key} {EQ} u.key::{key_type}"),
            None => format!("p.{key}::pg_catalog.text {EQ} u.key"),
        };
        format!(
            "INSERT INTO {classifier} (category, kind, origin, prompt, source_key, image, similarity, embedding{column}) \
             SELECT u.category, 'image', 'retrieved', u.prompt, u.key, {image}, u.similarity, p.{embedding}{value} \
             FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), \
             pg_catalog.unnest($4)) WITH ORDINALITY AS u (category, prompt, key, similarity, ord) \
             JOIN {table} p ON {has_key} ORDER BY u.ord RETURNING category::pg_catalog.text, similarity, {is_missing}"
        )
    }
}

/// Passes the vectors of every image of a table that has an embedding to `each`. Checks the columns and the caller's rights;
/// the table needs no key.
pub fn read_vectors(
    pool: RegClass,
    embedding_column: &str,
    likeness_column: Option<&str>,
    mut each: impl FnMut(Vector, Option<Vector>) -> Result<()>,
) -> Result<()> {
    pool.open_for_reading()?;
    let embedding = Column::of_vectors(pool, embedding_column)?.quoted;
    let likeness = likeness_column.map(|name| Column::of_vectors(pool, name)).transpose()?;
    let columns = match &likeness {
        Some(likeness) => format!("{embedding}, {}", likeness.quoted),
        None => embedding.clone(),
    };
    let sql = format!("SELECT {columns} FROM {} WHERE {embedding} IS NOT NULL", pool.quoted()?);
    spi::read(&sql, &[], |row| {
        each(row.required_vector(1)?, if likeness.is_some() { row.vector(2)? } else { None })?;
        Ok(true)
    })
}

/// The name of a primary key's only column; an error if there is no such key.
fn required_primary_key(relation: RegClass) -> Result<String> {
    match primary_key(relation)? {
        Some(name) => Ok(name),
        None => {
            let message = format!("relation \"{}\" has no primary key of one column", relation.name()?);
            Err(Error::argument(message).with_hint("Name a unique column with key_column => '…'."))
        }
    }
}
