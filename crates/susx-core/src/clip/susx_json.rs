//! `susx.json`: what the files of an export leave out or have wrong, and what the administrator chooses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::centre_crop::Rounding;
use super::error::{ClipError, Result};
use super::pooling::Pooling;
use crate::classifier::{ClassifierParams, PartialParams};
use crate::onnx::files::read_json;
use crate::onnx::model_dir;

/// The content of a `susx.json`; nothing if there is none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SusxJson {
    #[serde(flatten)]
    pub params: PartialParams,
    /// File names below the model's directory.
    pub vision_model: Option<String>,
    pub text_model: Option<String>,
    pub context_length: Option<usize>,
    pub pad_token: Option<String>,
    pub pooling: Option<Pooling>,
    pub crop: Option<Rounding>,
    /// What a SigLIP adds to its scaled cosines.
    pub logit_bias: Option<f32>,
    /// Everything else, which is a mistake.
    #[serde(flatten)]
    unknown: BTreeMap<String, Value>,
    #[serde(skip)]
    pub path: PathBuf,
}

/// The fields besides the parameters of a classifier.
const FILE_FIELDS: [&str; 7] =
    ["vision_model", "text_model", "context_length", "pad_token", "pooling", "crop", "logit_bias"];

impl SusxJson {
    /// Reads the file of the model in `dir`.
    pub fn read(dir: &Path) -> Result<SusxJson> {
        let path = dir.join("susx.json");
        let susx: SusxJson = match read_json(&path)? {
            Some(value) => serde_json::from_value(value).map_err(|error| ClipError::file(&path, error))?,
            None => SusxJson::default(),
        };
        if let Some(name) = susx.unknown.keys().next() {
            let known = ClassifierParams::NAMES.into_iter().chain(FILE_FIELDS).collect::<Vec<_>>().join(", ");
            let reason = format!("unknown field \"{name}\", expected one of: {known}");
            return Err(ClipError::file(&path, reason));
        }
        if let Some(bias) = susx.logit_bias.filter(|bias| !bias.is_finite()) {
            return Err(ClipError::file(
                &path,
                format!("\"logit_bias\" is {bias}: expected a finite number"),
            ));
        }
        Ok(SusxJson { path, ..susx })
    }

    /// The path of a file that it names, of the model in `dir`.
    pub fn file(&self, dir: &Path, name: Option<&String>) -> Result<Option<PathBuf>> {
        let file = name.map(|name| model_dir::file_below(dir, name)).transpose();
        file.map_err(|reason| ClipError::file(&self.path, reason))
    }
}
