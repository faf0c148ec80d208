//! A model's directory in the Hugging Face ONNX layout, read and checked but not loaded.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::centre_crop::Rounding;
use super::error::{ClipError, Result};
use super::layout::Layout;
use super::model_files::{BrokenEncoders, ModelFiles};
use super::open_clip_config;
use super::pad::{PadRules, pad_token};
use super::pooling::FeatureRules;
use super::preprocess::Preprocessor;
use super::preprocessor_config::PreprocessorConfig;
use super::susx_json::SusxJson;
use super::text_form::TextForm;
use crate::classifier::PartialParams;
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
    /// Where the directory keeps its files.
    pub layout: Layout,
    /// The ONNX files of the encoders that can be used.
    pub files: ModelFiles,
    /// Why the others cannot.
    pub broken: BrokenEncoders,
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
    /// What a SigLIP adds to its scaled cosines, if `susx.json` says it; the graph may, too.
    pub logit_bias: Option<f32>,
    /// `crop` of `susx.json`: whose rules round the size and the crop of an image.
    pub crop: Option<Rounding>,
    /// Whether `susx.json` states the scale of the similarities.
    pub(super) states_scale: bool,
}

/// Forms of a tokenizer that are not read, and how Python converts them.
const OTHER_TOKENIZERS: [(&str, &str); 4] = [
    ("spiece.model", FROM_SIGLIP),
    ("tokenizer.model", FROM_OTHERS),
    ("sentencepiece.bpe.model", FROM_OTHERS),
    ("vocab.json", FROM_OTHERS),
];
/// `transformers` has no fast tokenizer for SigLIP, but it has the converter of T5's, which is the same except for
/// extra tokens.
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
    /// Reads and checks the configuration of the model `name` of `model_dir`. Loads nothing, and reads no graph;
    /// [`ModelCheck`](super::ModelCheck) does.
    ///
    /// Fails if there is no such model, or if a file that all encoders need is missing, unreadable or contradicts another.
    /// If that is so of one encoder's files, the model is read without it, and [`broken`](Self::broken) says why.
    pub fn read(model_dir: &Path, name: &str) -> Result<ModelConfig> {
        let dir = model_dir::resolve(model_dir, name)?;
        if dir.join(GENERATOR_INDEX).is_file() {
            let reason = format!("it is an image generator, not a CLIP: it has a {GENERATOR_INDEX}");
            return Err(ClipError::file(dir, reason));
        }
        let config = read_json(&dir.join("config.json"))?.unwrap_or(Value::Null);
        let susx = SusxJson::read(&dir)?;
        let layout = Layout::of(&dir);
        let vision = susx.file(&dir, susx.vision_model.as_ref())?;
        let text = susx.file(&dir, susx.text_model.as_ref())?;
        let (mut files, mut broken) = ModelFiles::find(&dir, layout, vision, text)?;

        let preprocessor = preprocessor(&dir, layout, &config, susx.crop);
        let texts = TextFiles::read(&dir, layout);
        // Only the graph shows what a fused file needs, so loading it finds out what is missing.
        let (preprocessor, texts) = match &mut files {
            ModelFiles::Fused(_) => (preprocessor?, texts?),
            ModelFiles::Split { vision, text } => {
                let preprocessor = preprocessor.unwrap_or_else(|error| {
                    leave_out(vision, &mut broken.vision, error);
                    None
                });
                if preprocessor.is_none() {
                    leave_out(vision, &mut broken.vision, missing_preprocessor(&dir, layout));
                }
                let texts = texts.unwrap_or_else(|error| {
                    leave_out(text, &mut broken.text, error);
                    TextFiles::default()
                });
                if texts.tokenizer.is_none() {
                    leave_out(text, &mut broken.text, ClipError::file(&dir, missing_tokenizer(&dir, layout)));
                }
                (preprocessor, texts)
            }
        };
        if let (ModelFiles::Split { vision: None, text: None }, Some(error)) = (&files, broken.first()) {
            return Err(error.clone());
        }
        let model_type = config["model_type"].as_str().map(str::to_owned);
        let context_length = context_length(&susx, &config, &texts.config, model_type.as_deref())?;
        let defaults = defaults(&susx, &config, model_type.as_deref())?;
        let pad = PadRules {
            configured: pad_token(&texts.config).or_else(|| pad_token(&texts.special_tokens)),
            is_trained_with_it: is_siglip(model_type.as_deref()) || has_tokenizer_of_its_own(&config),
            stated: susx.pad_token,
        };
        Ok(ModelConfig {
            name: name.to_owned(),
            dir,
            layout,
            files,
            broken,
            model_type,
            projection_dim: projection_dim(&config),
            preprocessor,
            tokenizer: texts.tokenizer,
            context_length,
            pad,
            text_form: TextForm::of(&config, &texts.config),
            features: FeatureRules::new(&config, susx.pooling),
            defaults,
            logit_bias: susx.logit_bias,
            crop: susx.crop,
            states_scale: susx.params.logit_scale.is_some(),
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

/// The files of a tokenizer.
#[derive(Debug, Default)]
struct TextFiles {
    tokenizer: Option<PathBuf>,
    config: Value,
    special_tokens: Value,
}

impl TextFiles {
    fn read(dir: &Path, layout: Layout) -> Result<TextFiles> {
        let [config, special_tokens] = layout.tokenizer_configs();
        Ok(TextFiles {
            tokenizer: Some(dir.join(layout.tokenizer())).filter(|path| path.is_file()),
            config: read_json(&dir.join(config))?.unwrap_or(Value::Null),
            special_tokens: read_json(&dir.join(special_tokens))?.unwrap_or(Value::Null),
        })
    }
}

/// Leaves out an encoder, if there is one, for this reason.
fn leave_out(graph: &mut Option<PathBuf>, broken: &mut Option<ClipError>, reason: ClipError) {
    if graph.take().is_some() {
        *broken = Some(reason);
    }
}

/// The preprocessing, if there is a file for it.
fn preprocessor(
    dir: &Path,
    layout: Layout,
    config: &Value,
    rounding: Option<Rounding>,
) -> Result<Option<Preprocessor>> {
    let path = dir.join(layout.preprocessor(dir));
    if !path.exists() {
        return Ok(None);
    }
    let text = read_text(&path)?;
    let read = match layout {
        Layout::HuggingFace => PreprocessorConfig::from_json(&text),
        Layout::Immich => open_clip_config::from_json(&text),
    };
    let preprocessor = read.and_then(|read| {
        let rounding = rounding.unwrap_or(read.rounding);
        Preprocessor::new(&PreprocessorConfig { rounding, ..read })
    });
    let preprocessor = preprocessor.map_err(|reason| ClipError::file(&path, reason))?;
    check_image_size(&path, config, &preprocessor)?;
    Ok(Some(preprocessor))
}

fn missing_preprocessor(dir: &Path, layout: Layout) -> ClipError {
    let path = dir.join(layout.preprocessor(dir));
    ClipError::file(path, "the model has an image encoder, but this file is missing")
}

/// Why a model cannot tokenize. Many exports have a tokenizer in another form.
fn missing_tokenizer(dir: &Path, layout: Layout) -> String {
    let file = layout.tokenizer();
    match OTHER_TOKENIZERS.iter().find(|(other, _)| dir.join(other).is_file()) {
        Some((other, python)) => {
            format!("there is no {file}, only {other}. In that directory, Python makes one: {python}")
        }
        None => format!("there is no {file}"),
    }
}

/// Length of an embedding, which has another name in open_clip's configuration.
fn projection_dim(config: &Value) -> Option<usize> {
    let of_open_clip = || is_of_open_clip(config).then(|| config["embed_dim"].as_u64()).flatten();
    let stated = config["projection_dim"].as_u64().or_else(of_open_clip);
    stated.and_then(|dimensions| usize::try_from(dimensions).ok())
}

fn is_of_open_clip(config: &Value) -> bool {
    config["vision_cfg"].is_object() && config["text_cfg"].is_object()
}

/// Whether open_clip trained the text encoder with a tokenizer of Hugging Face, and so with that one's pad token.
fn has_tokenizer_of_its_own(config: &Value) -> bool {
    config["text_cfg"]["hf_tokenizer_name"].is_string()
}

fn is_siglip(model_type: Option<&str>) -> bool {
    matches!(model_type, Some("siglip" | "siglip2" | "siglip_model"))
}

/// Checks that the preprocessing of the file at `path` makes images of the size that `config.json` states, if it states one.
fn check_image_size(path: &Path, config: &Value, preprocessor: &Preprocessor) -> Result<()> {
    let stated = [&config["vision_config"]["image_size"], &config["vision_cfg"]["image_size"]];
    let Some(image_size) = stated.iter().find_map(|size| size.as_u64()) else { return Ok(()) };
    let (_, height, width) = preprocessor.shape();
    if (height as u64, width as u64) == (image_size, image_size) {
        return Ok(());
    }
    let reason = format!(
        "the preprocessed images have {height} × {width} pixels, but image_size of config.json is {image_size}"
    );
    Err(ClipError::file(path, reason))
}

/// The smallest limit that the files state: the encoder has a limited number of positions, and the tokenizer was made
/// for a limited number of tokens. CLIP's own files may leave out both, because they are the defaults.
fn context_length(
    susx: &SusxJson,
    config: &Value,
    tokenizer_config: &Value,
    model_type: Option<&str>,
) -> Result<usize> {
    if let Some(length) = susx.context_length {
        return match length as u64 {
            2..=MAX_CONTEXT_LENGTH => Ok(length),
            _ => Err(ClipError::file(
                &susx.path,
                format!("\"context_length\" is {length}: expected 2 to {MAX_CONTEXT_LENGTH}"),
            )),
        };
    }
    let stated = [
        &config["text_config"]["max_position_embeddings"],
        &config["text_cfg"]["context_length"],
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
/// `logit_scale_init_value` is the logarithm of the scale *before* training. The files of trained CLIPs still give
/// CLIP's 2.6592, although their scale ended at CLIP's ceiling of 100, so that value means 100. SigLIP's files give
/// nothing; the released models have 112 to 118 (and a bias, which a softmax over categories cancels). A configuration
/// of open_clip is that of a SigLIP if it has a bias. A graph of both encoders may have the scale itself: see
/// [`ModelCheck`](super::ModelCheck).
fn defaults(susx: &SusxJson, config: &Value, model_type: Option<&str>) -> Result<PartialParams> {
    let logit_scale = match config["logit_scale_init_value"].as_f64() {
        Some(value) if (value - UNTRAINED_LOGIT_SCALE).abs() < 1e-3 => Some(100.0),
        Some(value) => Some(value.exp() as f32),
        None => match model_type {
            Some("clip") => Some(100.0),
            model_type if is_siglip(model_type) => Some(115.0),
            _ if config["init_logit_bias"].is_number() => Some(115.0),
            _ => None,
        },
    };
    let stated = PartialParams { logit_scale, ..PartialParams::default() }.check().unwrap_or_default();
    let chosen = susx.params.check().map_err(|error| ClipError::file(&susx.path, error))?;
    Ok(chosen.or(stated))
}
