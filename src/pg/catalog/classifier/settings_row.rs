//! The row of a classifier's table that holds its settings.
//!
//! It makes the settings go where the table goes: to a logical subscriber, to every node of Citus, into a dump of this
//! one table. `susx.classifier` has the same settings for tables of this database; two triggers keep both equal:
//! [`super::sync`]. Where the table has such a row, the row counts. Tables that were made before there was this row have
//! none until `susx.adopt_classifier` gives it to them.

use pgrx::PgSqlErrorCode;
use serde::{Deserialize, Serialize};
use susx_core::classifier::ClassifierParams;

use super::super::write;
use super::Settings;
use crate::pg::catalog::citus::{self, Place};
use crate::pg::error::{Error, Result, SqlError};
use crate::pg::jsonb::Jsonb;
use crate::pg::open::OpenRelation;
use crate::pg::regclass::RegClass;
use crate::pg::relation_error::RelationError;
use crate::pg::roles;
use crate::pg::settings_text::{self, SETTINGS_ID, SETTINGS_KIND};
use crate::pg::spi::{self, Access, arg};

/// The condition that finds the row.
const THIS_ROW: &str = "id OPERATOR(pg_catalog.=) 0 AND kind OPERATOR(pg_catalog.=) 'settings'";

/// The settings in a classifier's table are not what susx writes there.
#[derive(Debug, thiserror::Error)]
#[error("the settings in the table of classifier \"{classifier}\" cannot be read: {reason}")]
struct BadSettings {
    classifier: String,
    table: String,
    reason: String,
}

impl SqlError for BadSettings {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_DATA_EXCEPTION
    }

    fn hint(&self) -> Option<String> {
        Some(format!(
            "They are in the column settings of the row of kind '{SETTINGS_KIND}'. DELETE FROM {} WHERE kind = \
             '{SETTINGS_KIND}' removes them; susx.adopt_classifier then writes them again.",
            self.table
        ))
    }
}

/// The settings as JSON. What a later version adds is ignored, and what an older one lacks has its starting value.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Stored {
    model: Option<String>,
    /// In hexadecimal digits.
    model_sha256: Option<String>,
    likeness_model: Option<String>,
    likeness_sha256: Option<String>,
    method: Option<String>,
    #[serde(flatten)]
    params: ClassifierParams,
}

impl From<&Settings> for Stored {
    fn from(settings: &Settings) -> Self {
        let hex = |digest: &Option<Vec<u8>>| digest.as_ref().map(hex::encode);
        Stored {
            model: settings.model.clone(),
            model_sha256: hex(&settings.model_sha256),
            likeness_model: settings.likeness_model.clone(),
            likeness_sha256: hex(&settings.likeness_sha256),
            method: settings.method.map(|method| method.name().to_owned()),
            params: settings.params,
        }
    }
}

impl TryFrom<Stored> for Settings {
    type Error = Error;

    fn try_from(stored: Stored) -> Result<Self> {
        let digest = |digits: Option<String>| {
            let bytes = digits.map(hex::decode).transpose();
            bytes.map_err(|error| Error::argument(format!("a digest of a model: {error}")))
        };
        Ok(Settings {
            model: stored.model,
            model_sha256: digest(stored.model_sha256)?,
            likeness_model: stored.likeness_model,
            likeness_sha256: digest(stored.likeness_sha256)?,
            method: stored.method.map(|name| name.parse()).transpose()?,
            params: *stored.params.check()?,
        })
    }
}

fn to_jsonb(settings: &Settings) -> Result<Jsonb> {
    serde_json::to_string(&Stored::from(settings)).map(Jsonb::Text).map_err(Error::internal)
}

fn of_json(classifier: RegClass, json: &str) -> Result<Settings> {
    let stored = serde_json::from_str::<Stored>(json).map_err(|error| error.to_string());
    let settings = stored.and_then(|stored| Settings::try_from(stored).map_err(|error| error.to_string()));
    match settings {
        Ok(settings) => Ok(settings),
        Err(reason) => {
            Err(BadSettings { classifier: classifier.name()?, table: classifier.quoted()?, reason }.into())
        }
    }
}

/// The settings in the classifier's table, as the running statement sees them; `None` if it has none. The relation is
/// locked.
pub(super) fn read(classifier: RegClass) -> Result<Option<Settings>> {
    let json = match citus::place(classifier)? {
        Place::Here(rows) => settings_text::read(rows)?,
        Place::Elsewhere => query(classifier, Access::Statement)?,
    };
    json.map(|json| of_json(classifier, &json)).transpose()
}

/// The same, after everything that this transaction has done.
pub(super) fn read_latest(classifier: RegClass) -> Result<Option<Settings>> {
    latest_json(classifier)?.map(|json| of_json(classifier, &json)).transpose()
}

fn latest_json(classifier: RegClass) -> Result<Option<String>> {
    match citus::place(classifier)? {
        Place::Here(rows) => settings_text::read_latest(rows),
        Place::Elsewhere => query(classifier, Access::Current),
    }
}

/// The same by a query, for a table whose rows are on other nodes.
fn query(classifier: RegClass, access: Access) -> Result<Option<String>> {
    let sql = format!("SELECT settings FROM {} WHERE {THIS_ROW}", classifier.quoted()?);
    let mut found: Option<Jsonb> = None;
    spi::read_in(access, &sql, &[], |row| {
        found = row.get(1)?;
        Ok(false)
    })?;
    found.map(Jsonb::text).transpose()
}

/// Whether the classifier's table has settings, after everything that this transaction has done.
pub(super) fn is_there(classifier: RegClass) -> Result<bool> {
    Ok(latest_json(classifier)?.is_some())
}

/// An error if this text is not what a row of settings holds.
pub fn check_settings(classifier: RegClass, json: &str) -> Result<()> {
    of_json(classifier, json).map(|_| ())
}

/// Adds the row to a table that has none.
pub(super) fn insert(classifier: RegClass, settings: &Settings) -> Result<()> {
    let sql = format!(
        "INSERT INTO {} (id, kind, origin, settings) VALUES ({SETTINGS_ID}, '{SETTINGS_KIND}', 'given', $1)",
        classifier.quoted()?
    );
    write(&sql, &[arg(to_jsonb(settings)?)])?;
    Ok(())
}

/// Stores the settings in the row, if the table has one that differs. The caller is known to have the right to change
/// the settings.
pub(super) fn update(classifier: RegClass, settings: &Settings) -> Result<()> {
    // Settings that cannot be read are replaced, too.
    let is_other = || match latest_json(classifier)? {
        Some(json) => Ok::<_, Error>(of_json(classifier, &json).ok().as_ref() != Some(settings)),
        None => Ok(false),
    };
    if !is_other()? {
        return Ok(());
    }
    let sql = format!("UPDATE {} SET settings = $1 WHERE {THIS_ROW}", classifier.quoted()?);
    let settings = to_jsonb(settings)?;
    let owner = OpenRelation::locked(classifier)?.owner();
    if owner == roles::current_user() {
        write(&sql, &[arg(settings)])?;
    } else {
        // The table's triggers are its owner's. They must not run as a superuser who changes many classifiers at once.
        roles::as_restricted_role(owner, || write(&sql, &[arg(settings)]))?;
    }
    if is_other()? {
        // The owner's own policies, or a trigger, have kept the row.
        return Err(RelationError::RowSecurity(classifier.name()?).into());
    }
    Ok(())
}
