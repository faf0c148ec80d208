//! Which classifiers and columns the files of a model are used by, for `susx.models()`.

use susx_server::protocol::Model;

use crate::pg::error::Result;
use crate::pg::spi;

/// Classifiers or columns whose embeddings were made by the same files of a model.
#[derive(Debug)]
pub struct ModelUse {
    model: String,
    sha256: Vec<u8>,
    /// Names of the classifiers or columns, for messages.
    pub names: String,
}

impl ModelUse {
    /// Whether these were made by another version of the model: one of the same name with other files.
    pub fn is_of_other_files(&self, model: &Model) -> bool {
        self.model == model.name && model.sha256.is_some_and(|loaded| loaded[..] != self.sha256[..])
    }

    /// The classifiers that the caller may read, by the models of their embeddings and of their likeness vectors.
    pub fn classifiers() -> Result<Vec<ModelUse>> {
        // UNION: a classifier whose models are the same is named once.
        let uses = "(SELECT classifier, model, model_sha256 FROM susx.classifier \
                    UNION SELECT classifier, likeness_model, likeness_sha256 FROM susx.classifier) c";
        ModelUse::read("classifier::pg_catalog.text", uses)
    }

    /// The columns of embeddings that the caller may read.
    pub fn columns() -> Result<Vec<ModelUse>> {
        let name =
            "pg_catalog.concat(relation::pg_catalog.text, '.', pg_catalog.quote_ident(embedding_column))";
        ModelUse::read(name, "susx.embedding_column")
    }

    /// `uses` is a FROM item: a table, or a subquery.
    fn read(name: &str, uses: &str) -> Result<Vec<ModelUse>> {
        let sql = format!(
            "SELECT model, model_sha256, pg_catalog.string_agg({name}, ', ' ORDER BY {name}) FROM {uses} \
             WHERE model IS NOT NULL AND model_sha256 IS NOT NULL GROUP BY model, model_sha256 ORDER BY 3"
        );
        let mut found = Vec::new();
        spi::read(&sql, &[], |row| {
            found.push(ModelUse {
                model: row.required(1)?,
                sha256: row.required(2)?,
                names: row.required(3)?,
            });
            Ok(true)
        })?;
        Ok(found)
    }
}
