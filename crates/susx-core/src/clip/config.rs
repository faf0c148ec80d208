//! A model's directory in the Hugging Face ONNX layout, read and checked but not loaded.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::error::{ClipError, Result};
use super::model_files::ModelFiles;
use super::pad::{PadRules, pad_token};
use super::pooling::{FeatureRules, Pooling};
use super::preprocess::Preprocessor;
use super::preprocessor_config::PreprocessorConfig;
use super::text_form::TextForm;
use crate::classifier::{ClassifierParams, PartialParams};
use crate::onnx::files::{read_json, read_text};
use crate::onnx::model_dir::{self, GENERATOR_INDEX};

/// Which encoders a model has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    /// Images and text, in one space.
    Clip,
    /// Images only.
    Vision,
    /// Text only.
    Text,
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ModelKind::Clip => "clip",
            ModelKind::Vision => "vision",
            ModelKind::Text => "text",
        })
    }
}

/// A model's directory, read and checked; nothing is loaded.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    /// Name of the directory.
    pub name: String,
    /// The directory, symbolic links resolved.
    pub dir: PathBuf,
    /// The ONNX files.
    pub files: ModelFiles,
    /// `model_type` of `config.json`, such as `clip` or `siglip`.
    pub model_type: Option<String>,
    /// Length of an embedding according to `config.json`, if it says so. The loaded model knows better.
    pub projection_dim: Option<usize>,
    /// How images are preprocessed; `None` for a model without an image encoder.
    pub preprocessor: Option<Preprocessor>,
    /// `tokenizer.json`; `None` for a model without a text encoder.
    pub tokenizer: Option<PathBuf>,
    /// The most tokens of a text, special ones included.
    pub context_length: usize,
    /// What the files next to `tokenizer.json` say about the token that pads short texts.
    pub pad: PadRules,
    /// What happens to a text before it is tokenized.
    pub text_form: TextForm,
    /// Which output of the image encoder holds the features, and how they are pooled.
    pub features: FeatureRules,
    /// The default settings of a classifier on this model.
    pub defaults: PartialParams,
}

/// `susx.json`: what the files of an export leave out or have wrong.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SusxJson {
    #[serde(flatten)]
    params: PartialParams,
    /// File names below the model's directory.
    vision_model: Option<String>,
    text_model: Option<String>,
    context_length: Option<usize>,
    pad_token: Option<String>,
    pooling: Option<Pooling>,
    /// Everything else, which is a mistake.
    #[serde(flatten)]
    unknown: BTreeMap<String, Value>,
}

/// The fields of `susx.json` besides the parameters of a classifier.
const FILE_FIELDS: [&str; 5] = ["vision_model", "text_model", "context_length", "pad_token", "pooling"];

/// The files that say how images are prepared.
const PREPROCESSOR_FILES: [&str; 2] = ["preprocessor_config.json", "processor_config.json"];

/// Forms of a tokenizer that are not read, and how Python converts them.
const OTHER_TOKENIZERS: [(&str, &str); 4] = [
    ("spiece.model", FROM_SIGLIP),
    ("tokenizer.model", FROM_OTHERS),
    ("sentencepiece.bpe.model", FROM_OTHERS),
    ("vocab.json", FROM_OTHERS),
];
/// `transformers` has no fast tokenizer for SigLIP, but the converter of T5's, which is the same but for extra tokens.
const FROM_SIGLIP: &str = "from transformers import SiglipTokenizer; \
    from transformers.convert_slow_tokenizer import T5Converter; \
    t = SiglipTokenizer.from_pretrained('.'); t._extra_ids = 0; T5Converter(t).converted().save('tokenizer.json')";
const FROM_OTHERS: &str = "from transformers import AutoTokenizer; \
    AutoTokenizer.from_pretrained('.', use_fast=True).save_pretrained('.')";

/// Limit of the context length. `transformers` writes 1e30 where a tokenizer has no limit; no real model comes near this.
const MAX_CONTEXT_LENGTH: u64 = 8192;

/// The `logit_scale_init_value` that CLIP's training starts from, ln(1 / 0.07).
const UNTRAINED_LOGIT_SCALE: f64 = 2.6592;

impl ModelConfig {
    /// Reads and checks the configuration of the model `name` of `model_dir`. Loads nothing.
    ///
    /// Fails if there is no such model, or if a file is missing, unreadable or contradicts another.
    pub fn read(model_dir: &Path, name: &str) -> Result<ModelConfig> {
        let dir = model_dir::resolve(model_dir, name)?;
        if dir.join(GENERATOR_INDEX).is_file() {
            let reason = format!("it is an image generator, not a CLIP: it has a {GENERATOR_INDEX}");
            return Err(ClipError::file(dir, reason));
        }
        let config = read_json(&dir.join("config.json"))?.unwrap_or(Value::Null);
        let tokenizer_config = read_json(&dir.join("tokenizer_config.json"))?.unwrap_or(Value::Null);
        let special_tokens = read_json(&dir.join("special_tokens_map.json"))?.unwrap_or(Value::Null);
        let susx_path = dir.join("susx.json");
        let susx: SusxJson = match read_json(&susx_path)? {
            Some(value) => {
                serde_json::from_value(value).map_err(|error| ClipError::file(&susx_path, error))?
            }
            None => SusxJson::default(),
        };
        if let Some(name) = susx.unknown.keys().next() {
            let known = ClassifierParams::NAMES.into_iter().chain(FILE_FIELDS).collect::<Vec<_>>().join(", ");
            return Err(ClipError::file(
                &susx_path,
                format!("unknown field \"{name}\", expected one of: {known}"),
            ));
        }

        let named = |file: &Option<String>| {
            let path = file.as_deref().map(|file| model_dir::file_below(&dir, file)).transpose();
            path.map_err(|reason| ClipError::file(&susx_path, reason))
        };
        let files = ModelFiles::find(&dir, named(&susx.vision_model)?, named(&susx.text_model)?)?;
        let (needs_vision, needs_text) = match &files {
            ModelFiles::Split { vision, text } => (vision.is_some(), text.is_some()),
            // Only the graph shows what it needs, so loading it finds out what is missing.
            ModelFiles::Fused(_) => (false, false),
        };
        let preprocessor = preprocessor(&dir, needs_vision)?;
        let tokenizer = Some(dir.join("tokenizer.json")).filter(|path| path.is_file());
        if needs_text && tokenizer.is_none() {
            return Err(ClipError::file(&dir, missing_tokenizer(&dir)));
        }
        if let Some(preprocessor) = &preprocessor {
            check_image_size(&dir, &config, preprocessor)?;
        }
        let model_type = config["model_type"].as_str().map(str::to_owned);
        let context_length =
            context_length(&susx, &susx_path, &config, &tokenizer_config, model_type.as_deref())?;
        let defaults = defaults(&susx, &susx_path, &config, model_type.as_deref())?;
        let pad = PadRules {
            configured: pad_token(&tokenizer_config).or_else(|| pad_token(&special_tokens)),
            is_trained_with_it: is_siglip(model_type.as_deref()),
            stated: susx.pad_token,
        };
        let text_form = TextForm::of(&config, &tokenizer_config);
        let projection_dim = config["projection_dim"].as_u64().and_then(|dim| usize::try_from(dim).ok());
        Ok(ModelConfig {
            name: name.to_owned(),
            dir,
            files,
            model_type,
            projection_dim,
            preprocessor,
            tokenizer,
            context_length,
            pad,
            text_form,
            features: FeatureRules::new(&config, susx.pooling),
            defaults,
        })
    }

    /// Which encoders the model has. For a fused file, the other files of the directory tell.
    pub fn kind(&self) -> ModelKind {
        let (vision, text) = match &self.files {
            ModelFiles::Split { vision, text } => (vision.is_some(), text.is_some()),
            ModelFiles::Fused(_) => (self.preprocessor.is_some(), self.tokenizer.is_some()),
        };
        match (vision, text) {
            (true, false) => ModelKind::Vision,
            (false, true) => ModelKind::Text,
            _ => ModelKind::Clip,
        }
    }

    /// Height and width of a preprocessed image, in pixels.
    pub fn image_size(&self) -> Option<(usize, usize)> {
        self.preprocessor.as_ref().map(|preprocessor| (preprocessor.shape().1, preprocessor.shape().2))
    }
}

/// The name of the file that says how images are prepared: `preprocessor_config.json`, or the `processor_config.json` that
/// transformers 5 writes instead of it.
pub(super) fn preprocessor_file(dir: &Path) -> &'static str {
    let [older, newer] = PREPROCESSOR_FILES;
    if !dir.join(older).exists() && dir.join(newer).exists() { newer } else { older }
}

fn preprocessor(dir: &Path, needed: bool) -> Result<Option<Preprocessor>> {
    let path = dir.join(preprocessor_file(dir));
    if !needed && !path.exists() {
        return Ok(None);
    }
    let text = read_text(&path)?;
    let preprocessor = PreprocessorConfig::from_json(&text).and_then(|config| Preprocessor::new(&config));
    preprocessor.map(Some).map_err(|reason| ClipError::file(&path, reason))
}

/// Why a model cannot tokenize. Many exports have a tokenizer in another form.
fn missing_tokenizer(dir: &Path) -> String {
    match OTHER_TOKENIZERS.iter().find(|(file, _)| dir.join(file).is_file()) {
        Some((file, python)) => {
            format!("there is no tokenizer.json, only {file}. In that directory, Python makes one: {python}")
        }
        None => "there is no tokenizer.json".to_owned(),
    }
}

fn is_siglip(model_type: Option<&str>) -> bool {
    matches!(model_type, Some("siglip" | "siglip2" | "siglip_model"))
}

/// Checks that the preprocessing makes images of the size that `config.json` states, if it states one.
fn check_image_size(dir: &Path, config: &Value, preprocessor: &Preprocessor) -> Result<()> {
    let Some(image_size) = config["vision_config"]["image_size"].as_u64() else { return Ok(()) };
    let (_, height, width) = preprocessor.shape();
    if (height as u64, width as u64) == (image_size, image_size) {
        return Ok(());
    }
    let reason = format!(
        "the preprocessed images have {height} × {width} pixels, but image_size of config.json is {image_size}"
    );
    Err(ClipError::file(dir.join("preprocessor_config.json"), reason))
}

/// The smallest limit that the files state: the encoder has only so many positions, and the tokenizer was made for
/// only so many tokens. CLIP's own files may leave out both, because they are the defaults.
fn context_length(
    susx: &SusxJson,
    susx_path: &Path,
    config: &Value,
    tokenizer_config: &Value,
    model_type: Option<&str>,
) -> Result<usize> {
    if let Some(length) = susx.context_length {
        return match length as u64 {
            2..=MAX_CONTEXT_LENGTH => Ok(length),
            _ => Err(ClipError::file(
                susx_path,
                format!("\"context_length\" is {length}: expected 2 to {MAX_CONTEXT_LENGTH}"),
            )),
        };
    }
    let stated = [
        &config["text_config"]["max_position_embeddings"],
        &config["max_position_embeddings"],
        &tokenizer_config["model_max_length"],
    ];
    let stated = stated
        .iter()
        .filter_map(|length| length.as_u64())
        .filter(|length| (2..=MAX_CONTEXT_LENGTH).contains(length));
    let default = if is_siglip(model_type) { 64 } else { 77 };
    Ok(stated.min().unwrap_or(default) as usize)
}

/// The starting values of classifiers: `susx.json`, and for the scale `config.json`.
///
/// `logit_scale_init_value` is the logarithm of the scale *before* training. The files of trained CLIPs still give CLIP's
/// 2.6592, although their scale ended at CLIP's ceiling of 100, so that value means 100. SigLIP's files give nothing; the
/// released models have 112 to 118 (and a bias, which a softmax over categories cancels).
fn defaults(
    susx: &SusxJson,
    susx_path: &Path,
    config: &Value,
    model_type: Option<&str>,
) -> Result<PartialParams> {
    let logit_scale = match config["logit_scale_init_value"].as_f64() {
        Some(value) if (value - UNTRAINED_LOGIT_SCALE).abs() < 1e-3 => Some(100.0),
        Some(value) => Some(value.exp() as f32),
        None => match model_type {
            Some("clip") => Some(100.0),
            model_type if is_siglip(model_type) => Some(115.0),
            _ => None,
        },
    };
    let stated = PartialParams { logit_scale, ..PartialParams::default() }.check().unwrap_or_default();
    let chosen = susx.params.check().map_err(|error| ClipError::file(susx_path, error))?;
    Ok(chosen.or(stated))
}
