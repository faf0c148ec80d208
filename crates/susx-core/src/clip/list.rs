//! The CLIP models of the model directory.

use std::path::Path;

use super::config::ModelConfig;
use super::error::Result;
use crate::onnx::model_dir;

/// The models of a directory by name, each with its configuration or what is wrong with it.
///
/// These are all subdirectories, except generators and those whose names are not valid model names (such as hidden
/// ones).
pub fn list_models(model_dir: &Path) -> Result<Vec<(String, Result<ModelConfig>)>> {
    Ok(model_names(model_dir)?
        .into_iter()
        .map(|name| {
            let config = ModelConfig::read(model_dir, &name);
            (name, config)
        })
        .collect())
}

/// The names of the models that [`list_models`] returns. Reads no file.
pub fn model_names(model_dir: &Path) -> Result<Vec<String>> {
    let is_clip = |name: &String| !model_dir::is_generator(model_dir, name);
    Ok(model_dir::names(model_dir)?.into_iter().filter(is_clip).collect())
}
