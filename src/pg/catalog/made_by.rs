//! `susx.embedding_column`: which model the embeddings of a table of images were made by.
//!
//! A vector does not tell what made it, and vectors of different models cannot be compared. So whoever first embeds
//! a table writes down the model and the digest of its files. As long as the column has embeddings, it is an error
//! to mix in those of another model, or to retrieve a support set from them for a classifier of another one.

use susx_server::protocol::Model;

use super::classifier::Settings;
use super::images::Images;
use super::{arg, first, write};
use crate::pg::client::{OwnModel, Owner};
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::spi;

/// A model: its name and, where that is known, the digest of its files.
#[derive(Clone, Debug)]
struct MadeBy {
    model: String,
    sha256: Option<Vec<u8>>,
}

/// What was made by the same files of a model.
#[derive(Debug)]
pub struct Made {
    model: String,
    sha256: Vec<u8>,
    /// Names of classifiers, or of columns.
    pub names: String,
}

impl MadeBy {
    /// What is written down of a column, or of the partitioned table that the relation is a part of.
    fn of(relation: RegClass, column: &str) -> Result<Option<MadeBy>> {
        let mut found = None;
        spi::read(
            "SELECT model, model_sha256 FROM susx.embedding_column \
             WHERE embedding_column OPERATOR(pg_catalog.=) $2::pg_catalog.name \
             AND relation OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT $1 UNION ALL \
             SELECT relid FROM pg_catalog.pg_partition_ancestors($1))) \
             ORDER BY relation OPERATOR(pg_catalog.=) $1 DESC LIMIT 1",
            &[arg(relation), arg(column.to_owned())],
            |row| {
                found = Some(MadeBy { model: row.required(1)?, sha256: row.get(2)? });
                Ok(false)
            },
        )?;
        Ok(found)
    }

    /// Whether embeddings of the one can be compared with those of the other. The same files may have got another
    /// name; where a digest is not known, the name decides.
    fn goes_with(&self, other: &MadeBy) -> bool {
        match (&self.sha256, &other.sha256) {
            (Some(one), Some(another)) => one == another,
            _ => self.model == other.model,
        }
    }
}

impl Images {
    /// The model that embeds this column from now on. It is written down where none is, or where the column has no
    /// embeddings any more; an error if there are embeddings of another one.
    pub fn embedded_by(&self, model: &Model) -> Result<OwnModel> {
        let used = MadeBy { model: model.name.clone(), sha256: model.sha256.map(|sha256| sha256.to_vec()) };
        match MadeBy::of(self.relation, &self.column)? {
            Some(made_by) if made_by.goes_with(&used) => {}
            Some(made_by) if self.has_embeddings()? => return Err(self.other_model(&made_by, &used)),
            _ => self.write_down(&used)?,
        }
        let owner = Owner::Column { relation: self.table.clone(), column: self.column.clone() };
        Ok(OwnModel { owner, name: used.model, sha256: used.sha256 })
    }

    fn has_embeddings(&self) -> Result<bool> {
        let Images { table, embedding, .. } = self;
        let sql = format!("SELECT EXISTS (SELECT FROM {table} WHERE {embedding} IS NOT NULL)");
        Ok(first(&sql, &[])?.unwrap_or(false))
    }

    /// Does nothing while another transaction writes the same: a long one, in which a trigger embeds, would otherwise
    /// hold up all others.
    fn write_down(&self, used: &MadeBy) -> Result<()> {
        let lock = "SELECT pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtext('susx.embedding_column'), \
                    pg_catalog.hashoid($1))";
        if first(lock, &[arg(self.relation.0)])? != Some(true) {
            return Ok(());
        }
        let sql = "INSERT INTO susx.embedding_column (relation, embedding_column, model, model_sha256) \
                   VALUES ($1, $2::pg_catalog.name, $3, $4) ON CONFLICT (relation, embedding_column) \
                   DO UPDATE SET model = excluded.model, model_sha256 = excluded.model_sha256";
        let (column, model) = (self.column.clone(), used.model.clone());
        write(sql, &[arg(self.relation), arg(column), arg(model), arg(used.sha256.clone())])?;
        Ok(())
    }

    fn other_model(&self, made_by: &MadeBy, used: &MadeBy) -> Error {
        let Images { name, column, table, embedding, .. } = self;
        let (old, new) = (&made_by.model, &used.model);
        let start = format!("column \"{column}\" of relation \"{name}\" has embeddings of");
        let anew = format!("To embed all of it anew: UPDATE {table} SET {embedding} = NULL, and call again.");
        match old == new {
            true => {
                Error::OtherModel { message: format!("{start} other files of model \"{new}\""), hint: anew }
            }
            false => Error::OtherModel {
                message: format!("{start} model \"{old}\", not \"{new}\""),
                hint: format!("Name the old model. {anew}"),
            },
        }
    }
}

/// An error if a pool's embeddings are known not to be of the classifier's model.
pub fn check_pool(pool: RegClass, column: &str, classifier: RegClass, settings: &Settings) -> Result<()> {
    let (Some(made_by), Some(model)) = (MadeBy::of(pool, column)?, settings.model.clone()) else {
        return Ok(());
    };
    let used = MadeBy { model, sha256: settings.model_sha256.clone() };
    if made_by.goes_with(&used) {
        return Ok(());
    }
    let (old, new) = (&made_by.model, &used.model);
    let start = format!("column \"{column}\" of relation \"{}\" has embeddings of", pool.name()?);
    let classifier = classifier.name()?;
    let message = match old == new {
        true => {
            format!("{start} other files of model \"{new}\" than classifier \"{classifier}\" was made with")
        }
        false => format!("{start} model \"{old}\", and classifier \"{classifier}\" is of model \"{new}\""),
    };
    Err(Error::OtherModel {
        message,
        hint: "To embed the images anew, set their embeddings to NULL and call susx.embed_table; to embed the \
               classifier anew, call susx.alter_classifier(classifier, model => '...') and set its embeddings to NULL."
            .to_owned(),
    })
}

impl Made {
    /// Whether the model of that name was made of other files.
    pub fn by_other_files(&self, model: &Model) -> bool {
        self.model == model.name && model.sha256.is_some_and(|loaded| loaded[..] != self.sha256[..])
    }

    /// The classifiers that the caller may read.
    pub fn classifiers() -> Result<Vec<Made>> {
        Made::read("classifier::pg_catalog.text", "susx.classifier")
    }

    /// The columns of embeddings that the caller may read.
    pub fn columns() -> Result<Vec<Made>> {
        let name =
            "pg_catalog.concat(relation::pg_catalog.text, '.', pg_catalog.quote_ident(embedding_column))";
        Made::read(name, "susx.embedding_column")
    }

    fn read(name: &str, table: &str) -> Result<Vec<Made>> {
        let sql = format!(
            "SELECT model, model_sha256, pg_catalog.string_agg({name}, ', ' ORDER BY {name}) FROM {table} \
             WHERE model IS NOT NULL AND model_sha256 IS NOT NULL GROUP BY model, model_sha256 ORDER BY 3"
        );
        let mut found = Vec::new();
        spi::read(&sql, &[], |row| {
            found.push(Made { model: row.required(1)?, sha256: row.required(2)?, names: row.required(3)? });
            Ok(true)
        })?;
        Ok(found)
    }
}
