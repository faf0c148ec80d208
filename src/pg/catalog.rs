//! What susx reads and writes in the database: the only SQL in this library.
//!
//! Everything runs as the caller, with the caller's rights. Names are qualified and operators too, so
//! that nothing depends on the caller's search_path.

use std::cell::Cell;

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::{quote_identifier, quote_literal};
use pgrx::{FromDatum, IntoDatum};
use susx_core::tip_x::{Method, Params};

use super::error::{Error, Result};
use super::regclass::RegClass;
use super::spi::{self, Row};
use super::vector::Vector;

/// The row of `susx.classifier`.
#[derive(Clone, Debug)]
pub struct Settings {
    pub model: Option<String>,
    pub model_sha256: Option<Vec<u8>>,
    /// `None`: TIP-X once there is a support set, zero-shot before.
    pub method: Option<Method>,
    pub params: Params,
}

/// Rows for a classifier's table, one element per row in every column.
#[derive(Debug)]
pub struct NewRows {
    pub kind: &'static str,
    pub origin: &'static str,
    pub category: Vec<String>,
    pub prompt: Vec<Option<String>>,
    pub embedding: Vec<Vector>,
}

/// An argument of a query.
pub fn arg<'a, T: IntoDatum>(value: T) -> DatumWithOid<'a> {
    let oid = T::type_oid();
    // SAFETY: the OID is the type's own.
    unsafe { DatumWithOid::new(value, oid) }
}

thread_local! {
    static VECTOR_TYPE: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::Oid::INVALID) };
}

/// Forgets what was looked up in pg_type.
pub fn forget_types() {
    VECTOR_TYPE.set(pg_sys::Oid::INVALID);
}

/// The OID of pgvector's type; invalid if the extension is not there.
pub fn vector_type() -> pg_sys::Oid {
    if VECTOR_TYPE.get() == pg_sys::Oid::INVALID {
        let mut found = pg_sys::Oid::INVALID;
        let looked_up = spi::read(
            "SELECT t.oid FROM pg_catalog.pg_type t JOIN pg_catalog.pg_extension e \
             ON t.typnamespace OPERATOR(pg_catalog.=) e.extnamespace \
             WHERE e.extname OPERATOR(pg_catalog.=) 'vector' AND t.typname OPERATOR(pg_catalog.=) 'vector'",
            &[],
            |row| {
                found = row.required(1)?;
                Ok(false)
            },
        );
        if looked_up.is_ok() {
            VECTOR_TYPE.set(found);
        }
    }
    VECTOR_TYPE.get()
}

/// pgvector's schema, quoted.
fn vector_schema() -> Result<String> {
    let sql = "SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension e \
               JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace \
               WHERE e.extname OPERATOR(pg_catalog.=) 'vector'";
    first(sql, &[])?.ok_or_else(|| Error::Internal("the extension vector is not installed".to_owned()))
}

/// The first column of the first row.
fn first<T: FromDatum + IntoDatum>(sql: &str, args: &[DatumWithOid]) -> Result<Option<T>> {
    let mut found = None;
    spi::read(sql, args, |row| {
        found = row.get(1)?;
        Ok(false)
    })?;
    Ok(found)
}

/// Runs a statement that writes; returns the rows that it touched.
fn write(sql: &str, args: &[DatumWithOid]) -> Result<usize> {
    Spi::connect_mut(|client| client.update(sql, None, args).map(|table| table.len())).map_err(Error::from)
}

// ---- classifiers ------------------------------------------------------------------------------------

/// The settings of a classifier, or an error that lists the classifiers there are.
pub fn settings(classifier: RegClass) -> Result<Settings> {
    let mut found = None;
    spi::read(
        "SELECT model, model_sha256, method, alpha, beta, gamma, temperature, logit_scale \
         FROM susx.classifier WHERE classifier OPERATOR(pg_catalog.=) $1",
        &[arg(classifier)],
        |row| {
            let method: Option<String> = row.get(3)?;
            found = Some(Settings {
                model: row.get(1)?,
                model_sha256: row.get(2)?,
                method: method.map(|name| name.parse()).transpose()?,
                params: Params {
                    alpha: row.required(4)?,
                    beta: row.required(5)?,
                    gamma: row.required(6)?,
                    temperature: row.required(7)?,
                    logit_scale: row.required(8)?,
                },
            });
            Ok(false)
        },
    )?;
    match found {
        Some(settings) => Ok(settings),
        None => Err(Error::NotAClassifier(classifier.name()?, known_classifiers()?)),
    }
}

fn known_classifiers() -> Result<String> {
    let sql =
        "SELECT pg_catalog.string_agg(classifier::text, ', ' ORDER BY classifier::text) FROM susx.classifier";
    Ok(match first::<String>(sql, &[])? {
        Some(names) => format!("Classifiers: {names}."),
        None => "There is no classifier yet: susx.create_classifier makes one.".to_owned(),
    })
}

/// Shows every row of a classifier's table, in the order of its ids: category, whether it is a
/// prompt, embedding.
pub fn read_rows(classifier: RegClass, mut each: impl FnMut(&str, bool, Vector) -> Result<()>) -> Result<()> {
    let sql = format!(
        "SELECT category, kind OPERATOR(pg_catalog.=) 'prompt', embedding FROM {} ORDER BY id",
        classifier.quoted()?
    );
    spi::read(&sql, &[], |row| {
        let category: String = row.required(1)?;
        each(&category, row.required(2)?, row.required(3)?)?;
        Ok(true)
    })
}

/// Shows the prompts of one origin after the other: category, embedding.
pub fn read_prompts(
    classifier: RegClass,
    origins: &[&str],
    mut each: impl FnMut(&str, Option<String>, Vector) -> Result<()>,
) -> Result<()> {
    let sql = format!(
        "SELECT category, prompt, embedding FROM {} WHERE kind OPERATOR(pg_catalog.=) 'prompt' \
         AND origin OPERATOR(pg_catalog.=) ANY ($1) ORDER BY id",
        classifier.quoted()?
    );
    let origins: Vec<String> = origins.iter().map(|&origin| origin.to_owned()).collect();
    spi::read(&sql, &[arg(origins)], |row| {
        let category: String = row.required(1)?;
        each(&category, row.get(2)?, row.required(3)?)?;
        Ok(true)
    })
}

/// Creates the table of a classifier by the name that the user wrote.
pub fn create_table(name: &str, dimensions: usize) -> Result<RegClass> {
    // With its schema: another table of that name may come first in the search_path.
    let mut parts: Vec<String> = first("SELECT pg_catalog.parse_ident($1)", &[arg(name.to_owned())])?
        .ok_or_else(|| Error::Internal("parse_ident returned NULL".to_owned()))?;
    if parts.len() == 1 {
        let schema: Option<String> = first("SELECT pg_catalog.current_schema()::text", &[])?;
        parts.insert(0, schema.ok_or(Error::NoSchema)?);
    }
    if parts.len() > 2 {
        return Err(Error::argument(format!("\"{name}\" has too many dots: a name is [schema.]table")));
    }
    let quoted = parts.iter().map(quote_identifier).collect::<Vec<_>>().join(".");
    let table = parts.last().map_or("", String::as_str);
    let vector = vector_schema()?;
    write(
        &format!(
            "CREATE TABLE {quoted} (\
             id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, \
             category text NOT NULL, \
             kind text NOT NULL DEFAULT 'image' CHECK (kind IN ('prompt', 'image')), \
             origin text NOT NULL DEFAULT 'labelled' \
               CHECK (origin IN ('template', 'cupl', 'given', 'retrieved', 'generated', 'labelled')), \
             prompt text, \
             source_key text, \
             image bytea, \
             similarity real, \
             embedding {vector}.vector({dimensions}) NOT NULL)"
        ),
        &[],
    )?;
    write(
        &format!(
            "CREATE TRIGGER susx_classifier_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {quoted} \
             FOR EACH STATEMENT EXECUTE FUNCTION susx.classifier_changed()"
        ),
        &[],
    )?;
    let comment = format!("The susx classifier {table}: one row per prompt or support image.");
    write(&format!("COMMENT ON TABLE {quoted} IS {}", quote_literal(comment)), &[])?;
    let oid: Option<pg_sys::Oid> =
        first("SELECT pg_catalog.to_regclass($1)::pg_catalog.oid", &[arg(quoted)])?;
    oid.map(RegClass).ok_or_else(|| Error::Internal(format!("table {name} was not created")))
}

/// Stores the settings of a new classifier.
pub fn insert_settings(classifier: RegClass, settings: &Settings) -> Result<()> {
    let params = settings.params;
    write(
        "INSERT INTO susx.classifier \
         (classifier, model, model_sha256, method, alpha, beta, gamma, temperature, logit_scale) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        &[
            arg(classifier),
            arg(settings.model.clone()),
            arg(settings.model_sha256.clone()),
            arg(settings.method.map(|method| method.name().to_owned())),
            arg(params.alpha),
            arg(params.beta),
            arg(params.gamma),
            arg(params.temperature),
            arg(params.logit_scale),
        ],
    )?;
    Ok(())
}

/// Stores changed settings. Row-level security hides the row from who may not change it.
pub fn update_settings(classifier: RegClass, settings: &Settings) -> Result<()> {
    let params = settings.params;
    let updated = write(
        "UPDATE susx.classifier SET model = $2, model_sha256 = $3, method = $4, \
         alpha = $5, beta = $6, gamma = $7, temperature = $8, logit_scale = $9 \
         WHERE classifier OPERATOR(pg_catalog.=) $1",
        &[
            arg(classifier),
            arg(settings.model.clone()),
            arg(settings.model_sha256.clone()),
            arg(settings.method.map(|method| method.name().to_owned())),
            arg(params.alpha),
            arg(params.beta),
            arg(params.gamma),
            arg(params.temperature),
            arg(params.logit_scale),
        ],
    )?;
    if updated == 0 { Err(Error::Permission(classifier.name()?)) } else { Ok(()) }
}

/// Adds rows to a classifier; returns how many.
pub fn insert_rows(classifier: RegClass, rows: NewRows) -> Result<usize> {
    let sql = format!(
        "INSERT INTO {} (category, kind, origin, prompt, embedding) \
         SELECT u.category, $1, $2, u.prompt, u.embedding \
         FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5)) \
         WITH ORDINALITY AS u (category, prompt, embedding, ord) ORDER BY u.ord",
        classifier.quoted()?
    );
    write(
        &sql,
        &[
            arg(rows.kind.to_owned()),
            arg(rows.origin.to_owned()),
            arg(rows.category),
            arg(rows.prompt),
            arg(rows.embedding),
        ],
    )
}

/// Removes the support images of one origin.
pub fn delete_support(classifier: RegClass, origin: &str) -> Result<()> {
    let sql = format!(
        "DELETE FROM {} WHERE kind OPERATOR(pg_catalog.=) 'image' AND origin OPERATOR(pg_catalog.=) $1",
        classifier.quoted()?
    );
    write(&sql, &[arg(origin.to_owned())])?;
    Ok(())
}

// ---- pools of images --------------------------------------------------------------------------------

/// A table of images with embeddings, its columns checked and quoted.
#[derive(Debug)]
pub struct Pool {
    table: String,
    key: String,
    /// The key's type if two of its values can be compared by pg_catalog's operator.
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
        let embedding = column(pool, embedding_column)?;
        if embedding.oid != vector_type() {
            return Err(Error::argument(format!(
                "column \"{embedding_column}\" of relation \"{}\" has type {}, not vector",
                pool.name()?,
                embedding.type_name
            )));
        }
        let image = image_column.map(|name| column(pool, name)).transpose()?;
        if let Some(image) = image.as_ref().filter(|image| image.oid != pg_sys::BYTEAOID) {
            return Err(Error::argument(format!(
                "column {} of relation \"{}\" has type {}, not bytea",
                image.quoted,
                pool.name()?,
                image.type_name
            )));
        }
        let key = match key_column {
            Some(name) => column(pool, name)?,
            None => column(pool, &primary_key(pool)?)?,
        };
        Ok(Pool {
            table: pool.quoted()?,
            key_type: key.is_built_in.then_some(key.type_name),
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

    /// Shows the key and the embedding of every image that has both.
    pub fn read(&self, mut each: impl FnMut(String, Vector) -> Result<()>) -> Result<()> {
        let Pool { table, key, embedding, .. } = self;
        let sql = format!(
            "SELECT {key}::text, {embedding} FROM {table} WHERE {embedding} IS NOT NULL AND {key} IS NOT NULL"
        );
        spi::read(&sql, &[], |row: &Row| {
            each(row.required(1)?, row.required(2)?)?;
            Ok(true)
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
            "SELECT {key}::text, {embedding} FROM {table} WHERE {embedding} IS NOT NULL AND {key} IS NOT NULL \
             ORDER BY {embedding} {operator} $1 LIMIT $2"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        spi::read(&sql, &[arg(Vector(query.to_vec())), arg(limit)], |row: &Row| {
            each(row.required(1)?, row.required(2)?)?;
            Ok(true)
        })
    }

    /// Copies images into a classifier's table: the key, the embedding and, where the pool was opened
    /// with an image column, the picture. Returns each new row's category and similarity.
    pub fn copy(&self, classifier: RegClass, images: Vec<Retrieved>) -> Result<Vec<(String, f32)>> {
        let Pool { table, key, embedding, key_type, image, .. } = self;
        let image = image.as_ref().map_or("NULL".to_owned(), |image| format!("p.{image}"));
        let joined = match key_type {
            Some(key_type) => format!("p.{key} OPERATOR(pg_catalog.=) u.key::{key_type}"),
            None => format!("p.{key}::text OPERATOR(pg_catalog.=) u.key"),
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
        if rows.len() > expected {
            return Err(Error::argument(format!("column {key} of {table} is not unique, so it is no key")));
        }
        Ok(rows)
    }
}

#[derive(Debug)]
struct Column {
    quoted: String,
    oid: pg_sys::Oid,
    type_name: String,
    /// Whether the type is one of pg_catalog's.
    is_built_in: bool,
}

fn column(relation: RegClass, name: &str) -> Result<Column> {
    let mut found = None;
    spi::read(
        "SELECT a.atttypid, pg_catalog.format_type(a.atttypid, a.atttypmod), \
         t.typnamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace \
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) a.atttypid \
         WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attname OPERATOR(pg_catalog.=) $2 \
         AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped",
        &[arg(relation.0), arg(name.to_owned())],
        |row| {
            found = Some(Column {
                quoted: quote_identifier(name),
                oid: row.required(1)?,
                type_name: row.required(2)?,
                is_built_in: row.required(3)?,
            });
            Ok(false)
        },
    )?;
    match found {
        Some(column) => Ok(column),
        None => Err(Error::NoColumn { relation: relation.name()?, column: name.to_owned() }),
    }
}

/// The column of a primary key that has only one.
fn primary_key(relation: RegClass) -> Result<String> {
    let sql = "SELECT a.attname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a \
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
    let sql = "SELECT o.opcname::text FROM pg_catalog.pg_index i \
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

/// Lets pgvector's index scans go on until a query has its rows, while `call` runs.
pub fn with_iterative_scans<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: the level is closed below; after an ERROR the transaction's abort does it.
    let level = unsafe { pg_sys::NewGUCNestLevel() };
    write(
        "SELECT pg_catalog.set_config('hnsw.iterative_scan', 'strict_order', true), \
         pg_catalog.set_config('ivfflat.iterative_scan', 'relaxed_order', true)",
        &[],
    )?;
    let result = call();
    // SAFETY: closes the level opened above.
    unsafe { pg_sys::AtEOXact_GUC(true, level) };
    result
}
