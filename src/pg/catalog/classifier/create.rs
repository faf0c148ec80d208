//! Creating a classifier's table.

use pgrx::spi::{quote_identifier, quote_literal};
use pgrx::{PgSqlErrorCode, pg_sys};

use super::super::write;
use crate::pg::error::{Error, Result, SqlError};
use crate::pg::extensions::vector_schema;
use crate::pg::hint::with_hint;
use crate::pg::regclass::RegClass;
use crate::pg::spi::operators::{EQ, GT};
use crate::pg::spi::{arg, first};

/// Why a classifier cannot be created under a name.
#[derive(Debug, thiserror::Error)]
enum CreateError {
    #[error("a classifier cannot be a temporary table")]
    Temporary,
    #[error("no schema has been selected to create in")]
    NoSchema,
}

impl SqlError for CreateError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        match self {
            CreateError::Temporary => PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            CreateError::NoSchema => PgSqlErrorCode::ERRCODE_INVALID_SCHEMA_NAME,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            CreateError::Temporary => {
                Some("Create it in a schema of your own and drop it when it is done.".to_owned())
            }
            CreateError::NoSchema => None,
        }
    }
}

/// The type text: without its schema, another type of that name might come first in the caller's search_path.
const TEXT: &str = "pg_catalog.text";

/// What the CHECK constraint of the column kind asks for.
pub(super) fn kind_check() -> String {
    format!("kind {EQ} ANY (ARRAY['prompt', 'image', 'negative', 'settings'])")
}

/// What the CHECK constraint of the column origin asks for.
pub(super) fn origin_check() -> String {
    format!(
        "origin {EQ} ANY (ARRAY['template', 'cupl', 'given', 'retrieved', 'generated', 'labelled', 'common'])"
    )
}

/// The column of the row of settings.
pub(super) const SETTINGS_COLUMN: &str = "settings pg_catalog.jsonb";

/// The name of the constraint that tells the row of settings from all others, which have a category and an embedding.
pub(super) const ROWS_CHECK: &str = "susx_rows";

/// What it asks for.
pub(super) fn rows_check() -> String {
    format!(
        "CASE WHEN kind {EQ} 'settings' THEN settings IS NOT NULL AND category IS NULL AND embedding IS NULL \
         ELSE settings IS NULL AND category IS NOT NULL AND embedding IS NOT NULL END"
    )
}

/// Creates the table of a classifier under the name that the caller wrote.
pub fn create_table(name: &str, dimensions: usize) -> Result<RegClass> {
    let names = names(name)?;
    // With its schema, since another table of that name may come first in the search_path.
    let quoted = names.iter().map(quote_identifier).collect::<Vec<_>>().join(".");
    let definition = definition(&quoted, &vector_schema()?, dimensions);
    let hint = |code| {
        (code == PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE)
            .then(|| format!("Take another name, or remove what has it: DROP TABLE {quoted};"))
    };
    with_hint(hint, || write(&definition, &[]))?;
    create_triggers(&quoted)?;
    let table = names.last().map_or("", String::as_str);
    let comment = format!(
        "The susx classifier {table}: one row per prompt, support image or negative, and one with its settings."
    );
    write(&format!("COMMENT ON TABLE {quoted} IS {}", quote_literal(comment)), &[])?;
    let oid: Option<pg_sys::Oid> =
        first("SELECT pg_catalog.to_regclass($1)::pg_catalog.oid", &[arg(quoted)])?;
    let oid = oid.ok_or_else(|| Error::internal(format_args!("table {name} was not created")))?;
    // Parallel workers, in which classify() may run, cannot read temporary tables.
    // SAFETY: looks up a table that exists.
    if unsafe { pg_sys::get_rel_persistence(oid) } as u8 == pg_sys::RELPERSISTENCE_TEMP {
        return Err(CreateError::Temporary.into());
    }
    Ok(RegClass(oid))
}

/// The schema and the name of a table, as PostgreSQL reads the text. Without a schema, it is the current one.
fn names(name: &str) -> Result<Vec<String>> {
    let hint = |code| {
        (code == PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE).then(|| {
            "A name with spaces, capital letters or signs needs double quotes, as it does in SQL: '\"My Kinds\"'."
                .to_owned()
        })
    };
    let found = with_hint(hint, || first("SELECT pg_catalog.parse_ident($1)", &[arg(name.to_owned())]))?;
    let mut names: Vec<String> = found.ok_or_else(|| Error::internal("parse_ident returned NULL"))?;
    if names.len() == 1 {
        let schema: Option<String> = first("SELECT pg_catalog.current_schema()::pg_catalog.text", &[])?;
        names.insert(0, schema.ok_or(CreateError::NoSchema)?);
    }
    if names.len() > 2 {
        return Err(Error::argument(format!("\"{name}\" has too many dots: a name is [schema.]table")));
    }
    Ok(names)
}

/// The column of likeness vectors. Its dimensions are those of the first vectors. `vector` is pgvector's schema.
pub(super) fn likeness_column(vector: &str) -> String {
    format!("likeness {vector}.vector CHECK ({vector}.vector_norm(likeness) {GT} 0)")
}

/// `vector` is pgvector's schema.
fn definition(table: &str, vector: &str, dimensions: usize) -> String {
    let (kind_check, origin_check) = (kind_check(), origin_check());
    format!(
        "CREATE TABLE {table} (\
         id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, \
         category {TEXT}, \
         kind {TEXT} NOT NULL DEFAULT 'image' CHECK ({kind_check}), \
         origin {TEXT} NOT NULL DEFAULT 'labelled' CHECK ({origin_check}), \
         prompt {TEXT}, \
         source_key {TEXT}, \
         image pg_catalog.bytea, \
         similarity real, \
         embedding {vector}.vector({dimensions}) CHECK ({vector}.vector_norm(embedding) {GT} 0), \
         {}, \
         {SETTINGS_COLUMN}, \
         CONSTRAINT {ROWS_CHECK} CHECK ({}))",
        likeness_column(vector),
        rows_check()
    )
}

/// Creates the triggers of a classifier's table, given its quoted name.
pub(super) fn create_triggers(table: &str) -> Result<()> {
    for sql in triggers(table) {
        write(&sql, &[])?;
    }
    Ok(())
}

fn triggers(table: &str) -> [String; 4] {
    [
        format!(
            "CREATE OR REPLACE TRIGGER susx_classifier_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} \
             FOR EACH STATEMENT EXECUTE FUNCTION susx.classifier_changed()"
        ),
        // Logical replication fires only triggers FOR EACH ROW, and only those that are enabled as REPLICA or ALWAYS.
        format!(
            "CREATE OR REPLACE TRIGGER susx_classifier_replicated AFTER INSERT OR UPDATE OR DELETE ON {table} \
             FOR EACH ROW EXECUTE FUNCTION susx.classifier_changed()"
        ),
        format!(
            "ALTER TABLE {table} ENABLE ALWAYS TRIGGER susx_classifier_changed, \
             ENABLE REPLICA TRIGGER susx_classifier_replicated"
        ),
        format!(
            "CREATE OR REPLACE TRIGGER susx_embed BEFORE INSERT OR UPDATE ON {table} \
             FOR EACH ROW WHEN (NEW.embedding IS NULL) EXECUTE FUNCTION susx.embed_row()"
        ),
    ]
}
