//! What the files of models say, read once for each state of them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use susx_core::clip::ModelConfig;
use susx_core::onnx::Stamp;

use crate::diffusion::GeneratorConfig;
use crate::models::model_names::Purpose;
use crate::models::registry::{GENERATOR, describe_config, describe_generator_config};
use crate::protocol::Model;

/// Descriptions of models that are not loaded.
#[derive(Debug, Default)]
pub struct DescriptionCache {
    /// By name, with the stamp of the files.
    models: Mutex<HashMap<String, (Purpose, Stamp, Model)>>,
}

impl DescriptionCache {
    /// What there is to say of a model whose files have this stamp.
    pub fn get(&self, dir: &Path, name: &str, purpose: Purpose, stamp: Option<Stamp>) -> Model {
        let lock = || self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, before, model)) = lock().get(name)
            && *of == purpose
            && stamp.is_some_and(|stamp| stamp.digest == before.digest)
        {
            return model.clone();
        }
        let model = read(dir, name, purpose);
        let mut models = lock();
        match stamp.filter(|stamp| stamp.is_settled) {
            Some(stamp) => drop(models.insert(name.to_owned(), (purpose, stamp, model.clone()))),
            None => drop(models.remove(name)),
        }
        model
    }
}

fn read(dir: &Path, name: &str, purpose: Purpose) -> Model {
    let wrong = |error: String| Model { name: name.to_owned(), error: Some(error), ..Model::default() };
    match purpose {
        Purpose::Embedding => match ModelConfig::read(dir, name) {
            Ok(config) => describe_config(&config),
            Err(error) => wrong(error.to_string()),
        },
        Purpose::Generation => match GeneratorConfig::read(dir, name) {
            Ok(config) => describe_generator_config(&config),
            Err(error) => Model { kind: Some(GENERATOR.to_owned()), ..wrong(error.to_string()) },
        },
    }
}
