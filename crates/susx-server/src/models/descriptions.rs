//! Descriptions of models that are not loaded, read from their files and cached until the files change.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use susx_core::clip::ModelConfig;
use susx_core::onnx::Stamp;

use crate::diffusion::GeneratorConfig;
use crate::models::model_names::Purpose;
use crate::models::registry::{GENERATOR, describe_config, describe_generator_config};
use crate::protocol::Model;

/// Cached descriptions of models that are not loaded.
#[derive(Debug, Default)]
pub struct DescriptionCache {
    /// By name, with the stamp of the files they were read from.
    models: Mutex<HashMap<String, (Purpose, Stamp, Model)>>,
}

impl DescriptionCache {
    /// The description of a model whose files have this stamp. A model that cannot be read has its `error` set.
    pub fn get(&self, dir: &Path, name: &str, purpose: Purpose, stamp: Option<Stamp>) -> Model {
        let lock = || self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((cached_purpose, cached_stamp, model)) = lock().get(name)
            && *cached_purpose == purpose
            && stamp.is_some_and(|stamp| stamp.digest == cached_stamp.digest)
        {
            return model.clone();
        }
        let model = read(dir, name, purpose);
        let mut models = lock();
        // Files that are too new may change again without a new stamp.
        match stamp.filter(|stamp| stamp.is_settled) {
            Some(stamp) => drop(models.insert(name.to_owned(), (purpose, stamp, model.clone()))),
            None => drop(models.remove(name)),
        }
        model
    }
}

fn read(dir: &Path, name: &str, purpose: Purpose) -> Model {
    let unusable = |error: String| Model { name: name.to_owned(), error: Some(error), ..Model::default() };
    match purpose {
        Purpose::Embedding => match ModelConfig::read(dir, name) {
            Ok(config) => describe_config(&config),
            Err(error) => unusable(error.to_string()),
        },
        Purpose::Generation => match GeneratorConfig::read(dir, name) {
            Ok(config) => describe_generator_config(&config),
            Err(error) => Model { kind: Some(GENERATOR.to_owned()), ..unusable(error.to_string()) },
        },
    }
}
