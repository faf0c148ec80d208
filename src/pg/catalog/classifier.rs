//! Classifiers' tables and their settings.

use pgrx::PgMemoryContexts;
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::{quote_identifier, quote_literal};
use susx_core::tip_x::{Method, Params};

use super::{arg, first, prevent_in_read_only, vector_schema, write};
use crate::pg::client::OwnModel;
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::spi;
use crate::pg::vector::Vector;

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

/// Classifiers that were made with the same files of a model.
#[derive(Debug)]
pub struct MadeWith {
    pub model: String,
    pub sha256: Vec<u8>,
    /// Their names.
    pub classifiers: String,
}

/// With which files of their models the classifiers were made that the caller may read.
pub fn made_with() -> Result<Vec<MadeWith>> {
    let mut found = Vec::new();
    spi::read(
        "SELECT model, model_sha256, pg_catalog.string_agg(classifier::pg_catalog.text, ', ' \
         ORDER BY classifier::pg_catalog.text) FROM susx.classifier \
         WHERE model IS NOT NULL AND model_sha256 IS NOT NULL GROUP BY model, model_sha256 ORDER BY 3",
        &[],
        |row| {
            let (model, sha256, classifiers) = (row.required(1)?, row.required(2)?, row.required(3)?);
            found.push(MadeWith { model, sha256, classifiers });
            Ok(true)
        },
    )?;
    Ok(found)
}

fn known_classifiers() -> Result<String> {
    let sql = "SELECT pg_catalog.string_agg(classifier::pg_catalog.text, ', ' ORDER BY classifier::pg_catalog.text) FROM susx.classifier";
    Ok(match first::<String>(sql, &[])? {
        Some(names) => format!("Classifiers: {names}."),
        None => "There is no classifier yet: susx.create_classifier makes one.".to_owned(),
    })
}

/// Shows every row of a classifier's table, in the order of its ids: id, category, whether it is a
/// prompt, embedding.
pub fn read_rows(
    classifier: RegClass,
    mut each: impl FnMut(i64, &str, bool, Vector) -> Result<()>,
) -> Result<()> {
    let sql = format!(
        "SELECT id, category, kind OPERATOR(pg_catalog.=) 'prompt', embedding FROM {} ORDER BY id",
        classifier.quoted()?
    );
    spi::read(&sql, &[], |row| {
        let category: String = row.required(2)?;
        each(row.required(1)?, &category, row.required(3)?, row.required(4)?)?;
        Ok(true)
    })
}

/// Whether some support images were not retrieved by the categories' names.
pub fn has_chosen_support(classifier: RegClass) -> Result<bool> {
    let sql = format!(
        "SELECT true FROM {} WHERE kind OPERATOR(pg_catalog.=) 'image' \
         AND origin OPERATOR(pg_catalog.<>) 'retrieved' LIMIT 1",
        classifier.quoted()?
    );
    Ok(first(&sql, &[])?.unwrap_or(false))
}

/// The dimensions of a classifier's column of embeddings; `None` where they are left open.
pub fn dimensions(classifier: RegClass) -> Result<Option<usize>> {
    // pgvector's type modifier is the number of dimensions.
    let sql = "SELECT atttypmod FROM pg_catalog.pg_attribute \
               WHERE attrelid OPERATOR(pg_catalog.=) $1 AND attname OPERATOR(pg_catalog.=) 'embedding'";
    let typmod: Option<i32> = first(sql, &[arg(classifier.0)])?;
    Ok(typmod.and_then(|typmod| usize::try_from(typmod).ok()))
}

/// Whether a category has a prompt, which makes it one.
pub fn has_category(classifier: RegClass, category: &str) -> Result<bool> {
    let sql = format!(
        "SELECT true FROM {} WHERE kind OPERATOR(pg_catalog.=) 'prompt' AND category OPERATOR(pg_catalog.=) $1 \
         LIMIT 1",
        classifier.quoted()?
    );
    Ok(first(&sql, &[arg(category.to_owned())])?.unwrap_or(false))
}

/// The names of all categories, in the order of their first prompts.
pub fn categories(classifier: RegClass) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT category FROM {} WHERE kind OPERATOR(pg_catalog.=) 'prompt' \
         GROUP BY category ORDER BY pg_catalog.min(id)",
        classifier.quoted()?
    );
    let mut categories = Vec::new();
    spi::read(&sql, &[], |row| {
        categories.push(row.required(1)?);
        Ok(true)
    })?;
    Ok(categories)
}

/// The error that a category does not exist, which lists those that do.
pub fn no_category(classifier: RegClass, category: &str) -> Result<Error> {
    Ok(Error::NoCategory {
        classifier: classifier.name()?,
        category: category.to_owned(),
        known: categories(classifier)?.join(", "),
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

/// The type text, whatever else is called so in the caller's search_path.
const TEXT: &str = "pg_catalog.text";

/// Creates the table of a classifier by the name that the user wrote.
pub fn create_table(name: &str, dimensions: usize) -> Result<RegClass> {
    // With its schema: another table of that name may come first in the search_path.
    let mut parts: Vec<String> = first("SELECT pg_catalog.parse_ident($1)", &[arg(name.to_owned())])?
        .ok_or_else(|| Error::Internal("parse_ident returned NULL".to_owned()))?;
    if parts.len() == 1 {
        let schema: Option<String> = first("SELECT pg_catalog.current_schema()::pg_catalog.text", &[])?;
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
             category {TEXT} NOT NULL, \
             kind {TEXT} NOT NULL DEFAULT 'image' \
               CHECK (kind OPERATOR(pg_catalog.=) ANY (ARRAY['prompt', 'image'])), \
             origin {TEXT} NOT NULL DEFAULT 'labelled' CHECK (origin OPERATOR(pg_catalog.=) \
               ANY (ARRAY['template', 'cupl', 'given', 'retrieved', 'generated', 'labelled'])), \
             prompt {TEXT}, \
             source_key {TEXT}, \
             image pg_catalog.bytea, \
             similarity real, \
             embedding {vector}.vector({dimensions}) NOT NULL \
               CHECK ({vector}.vector_norm(embedding) OPERATOR(pg_catalog.>) 0))"
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
    // Of what logical replication brings PostgreSQL tells triggers FOR EACH ROW alone, and no others than
    // these two kinds.
    write(
        &format!(
            "CREATE TRIGGER susx_classifier_replicated AFTER INSERT OR UPDATE OR DELETE ON {quoted} \
             FOR EACH ROW EXECUTE FUNCTION susx.classifier_changed()"
        ),
        &[],
    )?;
    write(
        &format!(
            "ALTER TABLE {quoted} ENABLE ALWAYS TRIGGER susx_classifier_changed, \
             ENABLE REPLICA TRIGGER susx_classifier_replicated"
        ),
        &[],
    )?;
    write(
        &format!(
            "CREATE TRIGGER susx_embed BEFORE INSERT OR UPDATE ON {quoted} \
             FOR EACH ROW WHEN (NEW.embedding IS NULL) EXECUTE FUNCTION susx.embed_row()"
        ),
        &[],
    )?;
    let comment = format!("The susx classifier {table}: one row per prompt or support image.");
    write(&format!("COMMENT ON TABLE {quoted} IS {}", quote_literal(comment)), &[])?;
    let oid: Option<pg_sys::Oid> =
        first("SELECT pg_catalog.to_regclass($1)::pg_catalog.oid", &[arg(quoted)])?;
    let oid = oid.ok_or_else(|| Error::Internal(format!("table {name} was not created")))?;
    // Parallel workers cannot read temporary tables, and classify() may run in them.
    // SAFETY: looks up a table that exists.
    if unsafe { pg_sys::get_rel_persistence(oid) } as u8 == pg_sys::RELPERSISTENCE_TEMP {
        return Err(Error::Temporary);
    }
    Ok(RegClass(oid))
}

/// Stores the settings of a new classifier.
pub fn insert_settings(classifier: RegClass, settings: &Settings) -> Result<()> {
    let sql = "INSERT INTO susx.classifier \
               (classifier, model, model_sha256, method, alpha, beta, gamma, temperature, logit_scale) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    write(sql, &settings.args(classifier))?;
    Ok(())
}

/// Stores changed settings. Row-level security hides the row from who may not change it.
pub fn update_settings(classifier: RegClass, settings: &Settings) -> Result<()> {
    classifier.open_for_updating()?;
    prevent_in_read_only();
    // The trigger of the settings does it as well. In this order, so that no two wait for each other.
    classifier.lock_for_writing();
    let sql = "UPDATE susx.classifier SET model = $2, model_sha256 = $3, method = $4, \
               alpha = $5, beta = $6, gamma = $7, temperature = $8, logit_scale = $9 \
               WHERE classifier OPERATOR(pg_catalog.=) $1";
    match write(sql, &settings.args(classifier))? {
        0 => Err(Error::Permission(classifier.name()?)),
        _ => Ok(()),
    }
}

impl Settings {
    /// The model of the classifier of that name; an error if it has none.
    pub fn own_model(&self, classifier: &str) -> Result<OwnModel> {
        OwnModel::new(classifier, self.model.as_deref(), self.model_sha256.as_deref())
    }

    /// The columns of `susx.classifier`, in their order.
    fn args<'a>(&self, classifier: RegClass) -> [DatumWithOid<'a>; 9] {
        let params = self.params;
        [
            arg(classifier),
            arg(self.model.clone()),
            arg(self.model_sha256.clone()),
            arg(self.method.map(|method| method.name().to_owned())),
            arg(params.alpha),
            arg(params.beta),
            arg(params.gamma),
            arg(params.temperature),
            arg(params.logit_scale),
        ]
    }
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
    freeing_arguments(|| {
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
    })
}

/// Runs a statement whose arguments are made in `call`, and frees them: a function runs many.
fn freeing_arguments(call: impl FnOnce() -> Result<usize>) -> Result<usize> {
    // SAFETY: what leaves the context is a number or an error, which Rust has allocated.
    unsafe { PgMemoryContexts::new("susx new rows").switch_to(|_| call()) }
}

/// Adds labelled images of one category with their pictures; returns how many.
///
/// A row of VALUES per image: to make an array of them would copy every picture twice more.
pub fn insert_images(
    classifier: RegClass,
    category: &str,
    images: &[&[u8]],
    embeddings: Vec<Vector>,
) -> Result<usize> {
    let rows: Vec<String> = (0..images.len())
        .map(|i| format!("($1, 'image', 'labelled', ${}, ${})", 2 * i + 2, 2 * i + 3))
        .collect();
    let sql = format!(
        "INSERT INTO {} (category, kind, origin, image, embedding) VALUES {}",
        classifier.quoted()?,
        rows.join(", ")
    );
    freeing_arguments(|| {
        let mut args = vec![arg(category.to_owned())];
        for (&image, embedding) in images.iter().zip(embeddings) {
            args.push(arg(image));
            args.push(arg(embedding));
        }
        write(&sql, &args)
    })
}

/// Removes the support images of one origin. Until the transaction ends nobody else changes the
/// classifier, so that two who replace them at once do so one after the other.
pub fn delete_support(classifier: RegClass, origin: &str) -> Result<()> {
    let table = classifier.quoted()?;
    write(&format!("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"), &[])?;
    let sql = format!(
        "DELETE FROM {table} WHERE kind OPERATOR(pg_catalog.=) 'image' AND origin OPERATOR(pg_catalog.=) $1"
    );
    write(&sql, &[arg(origin.to_owned())])?;
    Ok(())
}
