//! Classifiers' tables and their settings.

mod adopt;
mod allow_negatives;
mod corrections;
mod create;
mod error;
mod likeness;
mod old_table;
mod rows;
mod settings_row;
mod support_images;
pub mod sync;

use pgrx::PgSqlErrorCode;
use pgrx::datum::DatumWithOid;
use susx_core::classifier::ClassifierParams;
use susx_core::method::Method;

use super::{prevent_in_read_only, write};
use crate::pg::embedding_model::{EmbeddingModel, EmbeddingOwner};
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::relation_error::RelationError;
use crate::pg::spi::{self, Access, arg, first};
pub use adopt::adopt;
pub use allow_negatives::allow_negatives;
pub use corrections::{delete_images_of, insert_image_of, labelled_keys};
pub use create::create_table;
pub use error::ClassifierError;
pub use likeness::{allow_likeness, has_likeness_column, likeness_dimensions};
pub(super) use rows::lock;
pub use rows::{
    ClassifierRow, LabelledImage, NewRows, Role, categories, delete_support, dimensions, has_category,
    has_chosen_support, insert_images, insert_rows, known, negatives, no_category, read_prompts, read_rows,
};
pub use settings_row::check_settings;
pub use support_images::{SupportImage, support_images};

/// The settings of a classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub model: Option<String>,
    pub model_sha256: Option<Vec<u8>>,
    /// The model of the likeness vectors, by which images are compared.
    pub likeness_model: Option<String>,
    pub likeness_sha256: Option<Vec<u8>>,
    /// `None` selects the default: gated TIP-X with support images, zero-shot without.
    pub method: Option<Method>,
    pub params: ClassifierParams,
}

/// The relation that a text names, as in `'name'::regclass`; an error if there is none.
pub fn named(name: &str) -> Result<RegClass> {
    let sql = "SELECT $1::pg_catalog.regclass::pg_catalog.oid";
    let found: Option<pgrx::pg_sys::Oid> = first(sql, &[arg(name.to_owned())])?;
    found.map(RegClass).ok_or_else(|| Error::internal("regclass is NULL"))
}

/// The settings of a classifier, or an error that lists the classifiers there are. The relation is locked.
pub fn settings(classifier: RegClass) -> Result<Settings> {
    let found = match settings_row::read(classifier)? {
        Some(settings) => Some(settings),
        None => registered(classifier, Access::Statement)?,
    };
    match found {
        Some(settings) => Ok(settings),
        None => {
            let (name, known) = (classifier.name()?, known_classifiers()?);
            Err(ClassifierError::NotAClassifier { name, known }.into())
        }
    }
}

/// The settings in `susx.classifier`.
fn registered(classifier: RegClass, access: Access) -> Result<Option<Settings>> {
    let mut found = None;
    let sql = format!(
        "SELECT {} FROM susx.classifier WHERE classifier OPERATOR(pg_catalog.=) $1",
        settings_columns().join(", ")
    );
    spi::read_in(access, &sql, &[arg(classifier)], |row| {
        let method: Option<String> = row.get(5)?;
        let mut params = ClassifierParams::START.values();
        for (column, value) in (6..).zip(&mut params) {
            *value = row.required(column)?;
        }
        found = Some(Settings {
            model: row.get(1)?,
            model_sha256: row.get(2)?,
            likeness_model: row.get(3)?,
            likeness_sha256: row.get(4)?,
            method: method.map(|name| name.parse()).transpose()?,
            params: ClassifierParams::from_values(params),
        });
        Ok(false)
    })?;
    Ok(found)
}

/// The error that a relation is not a classifier; it says so if another argument of the call is one.
pub fn swapped(error: Error, other: RegClass) -> Error {
    match (error.sqlstate(), settings(other), other.name()) {
        (PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, Ok(_), Ok(name)) => {
            error.with_hint(format!("The arguments are in the wrong order: the classifier is \"{name}\"."))
        }
        _ => error,
    }
}

/// The columns of `susx.classifier` that hold settings: those of [`Settings`], with one column per parameter.
fn settings_columns() -> Vec<&'static str> {
    let models = ["model", "model_sha256", "likeness_model", "likeness_sha256"];
    models.into_iter().chain(["method"]).chain(ClassifierParams::NAMES).collect()
}

fn known_classifiers() -> Result<String> {
    let sql = "SELECT pg_catalog.string_agg(classifier::pg_catalog.text, ', ' ORDER BY classifier::pg_catalog.text) FROM susx.classifier";
    Ok(match first::<String>(sql, &[])? {
        Some(names) => format!("Classifiers: {names}."),
        None => "There is no classifier yet: susx.create_classifier makes one.".to_owned(),
    })
}

/// Stores the settings of a new classifier, in its table and in `susx.classifier`.
pub fn insert_settings(classifier: RegClass, settings: &Settings) -> Result<()> {
    settings_row::insert(classifier, settings)?;
    register(classifier, settings)
}

/// Adds a row to `susx.classifier`.
fn register(classifier: RegClass, settings: &Settings) -> Result<()> {
    let columns = settings_columns();
    let values: Vec<String> = (2..).take(columns.len()).map(|number| format!("${number}")).collect();
    let sql = format!(
        "INSERT INTO susx.classifier (classifier, {}) VALUES ($1, {})",
        columns.join(", "),
        values.join(", ")
    );
    write(&sql, &settings.args(classifier))?;
    Ok(())
}

/// Stores changed settings. Row-level security hides the row from users who may not change it.
pub fn update_settings(classifier: RegClass, settings: &Settings) -> Result<()> {
    classifier.open_for_updating()?;
    prevent_in_read_only();
    // The trigger of the settings takes this lock as well. Taking it first prevents deadlocks.
    classifier.lock_for_writing();
    // A trigger carries them to the classifier's table.
    match update_registered(classifier, settings)? {
        // The table came from elsewhere, with its settings.
        0 if settings_row::is_there(classifier)? => register(classifier, settings),
        0 => Err(RelationError::Permission(classifier.name()?).into()),
        _ => Ok(()),
    }
}

/// Changes the row of `susx.classifier`. Returns how many rows were changed: none where there is no row, or where row-level
/// security hides it.
fn update_registered(classifier: RegClass, settings: &Settings) -> Result<usize> {
    let assignments: Vec<String> =
        (2..).zip(settings_columns()).map(|(number, column)| format!("{column} = ${number}")).collect();
    let sql = format!(
        "UPDATE susx.classifier SET {} WHERE classifier OPERATOR(pg_catalog.=) $1",
        assignments.join(", ")
    );
    write(&sql, &settings.args(classifier))
}

impl Settings {
    /// Those of a classifier of which nothing is known.
    pub const START: Settings = Settings {
        model: None,
        model_sha256: None,
        likeness_model: None,
        likeness_sha256: None,
        method: None,
        params: ClassifierParams::START,
    };

    /// The model of the classifier of that name; an error if it has none.
    pub fn embedding_model(&self, classifier: &str) -> Result<EmbeddingModel> {
        let name = self.model.clone().ok_or_else(|| ClassifierError::NoModel(classifier.to_owned()))?;
        let owner = EmbeddingOwner::Classifier(classifier.to_owned());
        Ok(EmbeddingModel { owner, name, sha256: self.model_sha256.clone() })
    }

    /// The model of the likeness vectors of the classifier of that name; `None` if it has none.
    pub fn likeness_model(&self, classifier: &str) -> Option<EmbeddingModel> {
        let owner = EmbeddingOwner::Likeness(classifier.to_owned());
        let name = self.likeness_model.clone()?;
        Some(EmbeddingModel { owner, name, sha256: self.likeness_sha256.clone() })
    }

    /// The classifier, followed by the values of [`settings_columns`].
    fn args<'a>(&self, classifier: RegClass) -> Vec<DatumWithOid<'a>> {
        let mut args = vec![
            arg(classifier),
            arg(self.model.clone()),
            arg(self.model_sha256.clone()),
            arg(self.likeness_model.clone()),
            arg(self.likeness_sha256.clone()),
            arg(self.method.map(|method| method.name().to_owned())),
        ];
        args.extend(self.params.values().map(arg));
        args
    }
}
