//! Descriptions of models that are not loaded, read from their files and cached until the files change.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use susx_core::clip::{ModelCheck, Tower};
use susx_core::onnx::Stamp;

use crate::diffusion::GeneratorConfig;
use crate::models::model_names::Purpose;
use crate::protocol::{EncoderFile, Model};

/// [`Model::kind`] of generators.
const GENERATOR: &str = "diffusion";

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
        Purpose::Embedding => match ModelCheck::read(dir, name) {
            Ok(check) => describe_check(&check),
            Err(error) => unusable(error.to_string()),
        },
        Purpose::Generation => match GeneratorConfig::read(dir, name) {
            Ok(config) => describe_generator_config(&config),
            Err(error) => Model { kind: Some(GENERATOR.to_owned()), ..unusable(error.to_string()) },
        },
    }
}

/// Describes an embedding model by its files alone.
pub fn describe_check(check: &ModelCheck) -> Model {
    let config = &check.config;
    let file = |tower: &Tower| EncoderFile {
        file: tower.path.strip_prefix(&config.dir).unwrap_or(&tower.path).display().to_string(),
        precision: tower.precision.map(str::to_owned),
        opset: tower.opset.and_then(|opset| u32::try_from(opset).ok()),
    };
    Model {
        name: config.name.clone(),
        kind: Some(check.kind().to_string()),
        dimensions: config.projection_dim.and_then(|d| u32::try_from(d).ok()),
        image_size: config
            .image_size()
            .and_then(|(height, width)| Some((u32::try_from(height).ok()?, u32::try_from(width).ok()?))),
        bytes: config.bytes().ok(),
        defaults: config.defaults,
        logit_bias: config.logit_bias,
        error: check.error(),
        vision: check.vision.as_ref().map(file),
        text: check.text.as_ref().map(file),
        note: check.note(),
        ..Model::default()
    }
}

/// Describes a generator by its configuration alone.
pub fn describe_generator_config(config: &GeneratorConfig) -> Model {
    Model {
        name: config.name.clone(),
        kind: Some(GENERATOR.to_owned()),
        image_size: Some(config.image_size()),
        bytes: config.bytes().ok(),
        ..Model::default()
    }
}
