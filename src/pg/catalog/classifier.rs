//! Classifiers' tables and their settings.

mod allow_negatives;
mod corrections;
mod create;
mod error;
mod likeness;
mod old_table;
mod rows;
mod support_images;

use pgrx::datum::DatumWithOid;
use susx_core::classifier::ClassifierParams;
use susx_core::method::Method;

use super::{prevent_in_read_only, write};
use crate::pg::embedding_model::{EmbeddingModel, EmbeddingOwner};
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::relation_error::RelationError;
use crate::pg::spi::{self, arg, first};
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
pub use support_images::{SupportImage, support_images};

/// The row of `susx.classifier`.
#[derive(Clone, Debug)]
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

/// The settings of a classifier, or an error that lists the classifiers there are.
pub fn settings(classifier: RegClass) -> Result<Settings> {
    let mut found = None;
    let sql = format!(
        "SELECT {} FROM susx.classifier WHERE classifier OPERATOR(pg_catalog.=) $1",
        settings_columns().join(", ")
    );
    spi::read(&sql, &[arg(classifier)], |row| {
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
    match found {
        Some(settings) => Ok(settings),
        None => {
            let (name, known) = (classifier.name()?, known_classifiers()?);
            Err(ClassifierError::NotAClassifier { name, known }.into())
        }
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

/// Stores the settings of a new classifier.
pub fn insert_settings(classifier: RegClass, settings: &Settings) -> Result<()> {
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
    let assignments: Vec<String> =
        (2..).zip(settings_columns()).map(|(number, column)| format!("{column} = ${number}")).collect();
    let sql = format!(
        "UPDATE susx.classifier SET {} WHERE classifier OPERATOR(pg_catalog.=) $1",
        assignments.join(", ")
    );
    match write(&sql, &settings.args(classifier))? {
        0 => Err(RelationError::Permission(classifier.name()?).into()),
        _ => Ok(()),
    }
}

impl Settings {
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
