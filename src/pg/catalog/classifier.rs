//! Classifiers' tables and their settings.

mod create;
mod rows;

use pgrx::datum::DatumWithOid;
use susx_core::classifier::Method;
use susx_core::gda;
use susx_core::tip_x::Params;

use super::{prevent_in_read_only, write};
use crate::pg::embedding_model::{EmbeddingModel, EmbeddingOwner};
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::spi::{self, arg, first};
pub use create::create_table;
pub(super) use rows::lock;
pub use rows::{
    NewRows, Role, categories, delete_support, dimensions, has_category, has_chosen_support, insert_images,
    insert_rows, known, no_category, read_prompts, read_rows,
};

/// The row of `susx.classifier`.
#[derive(Clone, Debug)]
pub struct Settings {
    pub model: Option<String>,
    pub model_sha256: Option<Vec<u8>>,
    /// `None`: TIP-X once there is a support set, zero-shot before.
    pub method: Option<Method>,
    pub params: Params,
    pub gda: gda::Params,
}

/// The settings of a classifier, or an error that lists the classifiers there are.
pub fn settings(classifier: RegClass) -> Result<Settings> {
    let mut found = None;
    spi::read(
        "SELECT model, model_sha256, method, alpha, beta, gamma, temperature, logit_scale, \
         lambda, ridge FROM susx.classifier WHERE classifier OPERATOR(pg_catalog.=) $1",
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
                gda: gda::Params { lambda: row.required(9)?, ridge: row.required(10)? },
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
    let sql = "SELECT pg_catalog.string_agg(classifier::pg_catalog.text, ', ' ORDER BY classifier::pg_catalog.text) FROM susx.classifier";
    Ok(match first::<String>(sql, &[])? {
        Some(names) => format!("Classifiers: {names}."),
        None => "There is no classifier yet: susx.create_classifier makes one.".to_owned(),
    })
}

/// Stores the settings of a new classifier.
pub fn insert_settings(classifier: RegClass, settings: &Settings) -> Result<()> {
    let sql = "INSERT INTO susx.classifier \
               (classifier, model, model_sha256, method, alpha, beta, gamma, temperature, logit_scale, lambda, ridge) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
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
               alpha = $5, beta = $6, gamma = $7, temperature = $8, logit_scale = $9, lambda = $10, ridge = $11 \
               WHERE classifier OPERATOR(pg_catalog.=) $1";
    match write(sql, &settings.args(classifier))? {
        0 => Err(Error::Permission(classifier.name()?)),
        _ => Ok(()),
    }
}

impl Settings {
    /// The model of the classifier of that name; an error if it has none.
    pub fn embedding_model(&self, classifier: &str) -> Result<EmbeddingModel> {
        let name = self.model.clone().ok_or_else(|| Error::NoModel(classifier.to_owned()))?;
        let owner = EmbeddingOwner::Classifier(classifier.to_owned());
        Ok(EmbeddingModel { owner, name, sha256: self.model_sha256.clone() })
    }

    /// The columns of `susx.classifier`, in their order.
    fn args<'a>(&self, classifier: RegClass) -> [DatumWithOid<'a>; 11] {
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
            arg(self.gda.lambda),
            arg(self.gda.ridge),
        ]
    }
}
