//! Tables of images with embeddings, out of which support sets are retrieved.

use std::ffi::CStr;

use pgrx::prelude::*;

use super::column::Column;
use super::images::EXACT;
use super::{arg, first, key, vector_schema, with_settings};
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::spi::{self, Row};
use crate::pg::vector::Vector;

/// A table of images with embeddings, its columns checked and quoted.
#[derive(Debug)]
pub struct Pool {
    table: String,
    key: String,
    /// The key's type if two of its values can be compared by pg_catalog's operator, and exact text is read as the same
    /// value whatever the caller's settings are.
    key_type: Option<String>,
    embedding: String,
    image: Option<String>,
    /// pgvector's operator that an index on the embedding column serves, qualified.
    operator: Option<String>,
}

/// An image that goes into a classifier's table.
#[derive(Debug)]
pub struct Retrieved {
    pub category: String,
    pub prompt: Option<String>,
    pub key: String,
    pub similarity: f32,
}

impl Pool {
    pub fn open(
        pool: RegClass,
        embedding_column: &str,
        image_column: Option<&str>,
        key_column: Option<&str>,
    ) -> Result<Self> {
        pool.open_for_reading()?;
        let embedding = Column::of_vectors(pool, embedding_column)?;
        let image = image_column.map(|name| Column::of_images(pool, name)).transpose()?;
        let key = match key_column {
            Some(name) => Column::open(pool, name)?,
            None => Column::open(pool, &primary_key(pool)?)?,
        };
        Ok(Pool {
            table: pool.quoted()?,
            key_type: key.is_built_in.then(|| key.base_type()).filter(|name| name != key::MONEY),
            key: key.quoted,
            operator: index_operator(pool, embedding_column)?,
            embedding: embedding.quoted,
            image: image.map(|image| image.quoted),
        })
    }

    /// Whether an index finds the images that are nearest to a vector.
    pub fn has_index(&self) -> bool {
        self.operator.is_some()
    }

    /// How many images have both a key and an embedding.
    pub fn count(&self) -> Result<u64> {
        let Pool { table, key, embedding, .. } = self;
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM {table} WHERE {embedding} IS NOT NULL AND {key} IS NOT NULL"
        );
        Ok(first::<i64>(&sql, &[])?.map_or(0, i64::unsigned_abs))
    }

    /// Shows the key and the embedding of every image that has both.
    pub fn read(&self, mut each: impl FnMut(String, Vector) -> Result<()>) -> Result<()> {
        let Pool { table, key, embedding, .. } = self;
        let sql = format!(
            "SELECT {key}::pg_catalog.text, {embedding} FROM {table} WHERE {embedding} IS NOT NULL AND {key} IS NOT NULL"
        );
        with_settings(&EXACT, || {
            spi::read(&sql, &[], |row: &Row| {
                each(row.required_text(1, "the key of an image of the pool")?, row.required(2)?)?;
                Ok(true)
            })
        })
    }

    /// Shows up to `limit` images by the pool's index, those nearest to `query` first.
    pub fn nearest(
        &self,
        query: &[f32],
        limit: usize,
        mut each: impl FnMut(String, Vector) -> Result<()>,
    ) -> Result<()> {
        let Pool { table, key, embedding, operator: Some(operator), .. } = self else {
            return Err(Error::Internal("the pool has no index".to_owned()));
        };
        let sql = format!(
            "SELECT {key}::pg_catalog.text, {embedding} FROM {table} WHERE {embedding} IS NOT NULL AND {key} IS NOT NULL \
             ORDER BY {embedding} {operator} $1 LIMIT $2"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        with_settings(&EXACT, || {
            spi::read(&sql, &[arg(Vector(query.to_vec())), arg(limit)], |row: &Row| {
                each(row.required_text(1, "the key of an image of the pool")?, row.required(2)?)?;
                Ok(true)
            })
        })
    }

    /// Copies images into a classifier's table: the key, the embedding and, where the pool was opened
    /// with an image column, the picture. Returns each new row's category and similarity. An error if the pool
    /// has not one image for each key any more.
    pub fn copy(&self, classifier: RegClass, images: Vec<Retrieved>) -> Result<Vec<(String, f32)>> {
        let Pool { table, key, embedding, key_type, image, .. } = self;
        let image = image.as_ref().map_or("NULL".to_owned(), |image| format!("p.{image}"));
        let joined = match key_type {
            Some(key_type) => format!("p.{key} OPERATOR(pg_catalog.=) u.key::{key_type}"),
            None => format!("p.{key}::pg_catalog.text OPERATOR(pg_catalog.=) u.key"),
        };
        let sql = format!(
            "INSERT INTO {} (category, kind, origin, prompt, source_key, image, similarity, embedding) \
             SELECT u.category, 'image', 'retrieved', u.prompt, u.key, {image}, u.similarity, p.{embedding} \
             FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), \
             pg_catalog.unnest($4)) WITH ORDINALITY AS u (category, prompt, key, similarity, ord) \
             JOIN {table} p ON {joined} ORDER BY u.ord RETURNING category, similarity",
            classifier.quoted()?
        );
        let expected = images.len();
        let (mut categories, mut prompts, mut keys, mut similarities) = (vec![], vec![], vec![], vec![]);
        for image in images {
            categories.push(image.category);
            prompts.push(image.prompt);
            keys.push(image.key);
            similarities.push(image.similarity);
        }
        let insert = || {
            let rows = Spi::connect_mut(|client| {
                let args = [arg(categories), arg(prompts), arg(keys), arg(similarities)];
                let mut rows = Vec::new();
                for row in client.update(&sql, None, &args)? {
                    rows.push((
                        row.get::<String>(1)?.unwrap_or_default(),
                        row.get::<f32>(2)?.unwrap_or_default(),
                    ));
                }
                Ok::<_, pgrx::spi::Error>(rows)
            })?;
            Ok(rows)
        };
        // Where that does no harm, with the caller's settings: writing has triggers.
        let settings = if key_type.is_some() { &[][..] } else { &EXACT };
        let rows = with_settings(settings, insert)?;
        match rows.len() {
            found if found > expected => {
                Err(Error::argument(format!("column {key} of {table} is not unique, so it is no key")))
            }
            found if found < expected => Err(Error::PoolChanged { pool: table.clone(), expected, found }),
            _ => Ok(rows),
        }
    }
}

/// The column of a primary key that has only one.
fn primary_key(relation: RegClass) -> Result<String> {
    let sql = "SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a \
               ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid AND a.attnum OPERATOR(pg_catalog.=) i.indkey[0] \
               WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND i.indisprimary \
               AND i.indnkeyatts OPERATOR(pg_catalog.=) 1";
    match first(sql, &[arg(relation.0)])? {
        Some(name) => Ok(name),
        None => Err(Error::ArgumentWithHint {
            message: format!("relation \"{}\" has no primary key of one column", relation.name()?),
            hint: "Name a unique column with key_column => '…'.".to_owned(),
        }),
    }
}

/// The operator that orders by an hnsw or ivfflat index over all rows. For unit vectors, which
/// embeddings are, all three of these orders are the same.
fn index_operator(relation: RegClass, column: &str) -> Result<Option<String>> {
    let sql = "SELECT o.opcname::pg_catalog.text FROM pg_catalog.pg_index i \
               JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid \
               JOIN pg_catalog.pg_am m ON m.oid OPERATOR(pg_catalog.=) c.relam \
               JOIN pg_catalog.pg_opclass o ON o.oid OPERATOR(pg_catalog.=) i.indclass[0] \
               JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid \
               AND a.attnum OPERATOR(pg_catalog.=) i.indkey[0] \
               WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND a.attname OPERATOR(pg_catalog.=) $2 \
               AND i.indisvalid AND i.indpred IS NULL \
               AND m.amname OPERATOR(pg_catalog.=) ANY ('{hnsw,ivfflat}') \
               AND o.opcname OPERATOR(pg_catalog.=) ANY ('{vector_cosine_ops,vector_ip_ops,vector_l2_ops}') \
               ORDER BY m.amname, o.opcname LIMIT 1";
    let operator = match first::<String>(sql, &[arg(relation.0), arg(column.to_owned())])?.as_deref() {
        Some("vector_cosine_ops") => "<=>",
        Some("vector_ip_ops") => "<#>",
        Some("vector_l2_ops") => "<->",
        _ => return Ok(None),
    };
    Ok(Some(format!("OPERATOR({}.{operator})", vector_schema()?)))
}

/// How far pgvector's index scans go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Until a query has its rows.
    Complete,
    /// Before version 0.8.0: until so many rows are found, at most, which may be fewer than there are.
    Limited,
}

/// Lets pgvector's index scans go as far as they can while `call` runs, which is told how far that is.
pub fn with_long_scans<T>(pool: &Pool, call: impl FnOnce(Reach) -> Result<T>) -> Result<T> {
    // The settings are those of pgvector's library, so they are there when it is loaded.
    if let Some(operator) = &pool.operator {
        let one = || arg(Vector(vec![1.0]));
        first::<f64>(&format!("SELECT $1 {operator} $2"), &[one(), one()])?;
    }
    let newer = [(c"hnsw.iterative_scan", c"strict_order"), (c"ivfflat.iterative_scan", c"relaxed_order")];
    // The highest values that there are.
    let older = [(c"hnsw.ef_search", c"1000"), (c"ivfflat.probes", c"32768")];
    let exists = |(name, _): &(&CStr, &CStr)| {
        // SAFETY: a C string; NULL for a setting that does not exist. One that somebody has made up has a flag.
        unsafe {
            !pg_sys::GetConfigOption(name.as_ptr(), true, false).is_null()
                && pg_sys::GetConfigOptionFlags(name.as_ptr(), true) & pg_sys::GUC_CUSTOM_PLACEHOLDER as i32
                    == 0
        }
    };
    match newer.iter().all(exists) {
        true => with_settings(&newer, || call(Reach::Complete)),
        false => {
            let known: Vec<_> = older.into_iter().filter(exists).collect();
            with_settings(&known, || call(Reach::Limited))
        }
    }
}
