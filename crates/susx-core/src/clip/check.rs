//! What the files of a model say about it: checks that need no weights, so that they cost little.

use std::path::{Path, PathBuf};

use super::config::{ModelConfig, ModelKind};
use super::encoder_graph::{Role, image_output, roles, text_output};
use super::encoders::check_image_size;
use super::error::{ClipError, Result};
use super::model_files::{ModelFiles, keep};
use super::pooling::Features;
use super::tokenizer;
use crate::onnx::{Header, Port};

/// A model whose files have been checked. It may still fail to load: the checks run nothing.
#[derive(Clone, Debug)]
pub struct ModelCheck {
    /// The configuration, with the encoders that can be used; its `broken` says why the others cannot.
    pub config: ModelConfig,
    /// The graph of the image encoder.
    pub vision: Option<Tower>,
    /// The graph of the text encoder. A fused model has the same for both.
    pub text: Option<Tower>,
}

/// The graph of an encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tower {
    /// Its file.
    pub path: PathBuf,
    /// The precision of its weights: see [`Header::precision`].
    pub precision: Option<&'static str>,
    /// Version of ONNX's operator set.
    pub opset: Option<u64>,
    /// Whether an input's result depends on the others of its batch, so that each is run alone.
    pub depends_on_batch: bool,
    /// Length of an embedding, if the graph states it.
    pub dimensions: Option<usize>,
}

/// A trained scale of similarities is e to the power of such a number: e^0 is 1, and e^10 more than any model has.
const LOG_SCALES: std::ops::Range<f32> = 0.0..10.0;

impl ModelCheck {
    /// Reads and checks the model `name` of `model_dir`, without loading it. Reads the configuration, the tokenizer and the
    /// structure of the graphs, but no weights.
    ///
    /// Fails if no encoder can be used, or if the encoders contradict each other.
    pub fn read(model_dir: &Path, name: &str) -> Result<ModelCheck> {
        ModelConfig::read(model_dir, name).and_then(ModelCheck::of)
    }

    /// Checks a model whose configuration has been read.
    pub fn of(mut config: ModelConfig) -> Result<ModelCheck> {
        let (mut vision, mut text) = (None, None);
        match config.files.clone() {
            ModelFiles::Fused(path) => {
                let header = read_header(&path)?;
                (vision, text) = fused_towers(&path, &header, &config)?;
                if !config.states_scale
                    && let Some(log) = header.scalar("logit_scale").filter(|log| LOG_SCALES.contains(log))
                {
                    config.defaults.logit_scale = Some(log.exp());
                }
                let bias = || header.scalar("logit_bias").filter(|bias| bias.is_finite());
                config.logit_bias = config.logit_bias.or_else(bias);
            }
            ModelFiles::Split { vision: vision_path, text: text_path } => {
                let found = vision_path.map(|path| vision_tower(&path, &config));
                keep(found, &mut vision, &mut config.broken.vision);
                let found = text_path.map(|path| text_tower(&path, &config));
                keep(found, &mut text, &mut config.broken.text);
                config.files = ModelFiles::Split {
                    vision: vision.as_ref().map(|tower: &Tower| tower.path.clone()),
                    text: text.as_ref().map(|tower: &Tower| tower.path.clone()),
                };
            }
        }
        let check = ModelCheck { config, vision, text };
        check.dimensions()?;
        match (&check.vision, &check.text, check.config.broken.first()) {
            (None, None, Some(error)) => Err(error.clone()),
            (None, None, None) => Err(ClipError::file(
                &check.config.dir,
                "the graph has neither an input for images nor one for text",
            )),
            _ => Ok(check),
        }
    }

    /// The encoders that can be used.
    pub fn kind(&self) -> ModelKind {
        match (&self.vision, &self.text) {
            (Some(_), None) => ModelKind::Vision,
            (None, Some(_)) => ModelKind::Text,
            _ => ModelKind::Clip,
        }
    }

    /// Why one of the encoders cannot be used; `None` if all can.
    pub fn error(&self) -> Option<String> {
        let broken = &self.config.broken;
        let vision = broken.vision.as_ref().map(|error| format!("it embeds no images: {error}"));
        let text = broken.text.as_ref().map(|error| format!("it embeds no texts: {error}"));
        vision.into_iter().chain(text).reduce(|all, one| format!("{all}; {one}"))
    }

    /// What is worth knowing about a model that works.
    pub fn note(&self) -> Option<String> {
        let mut notes = Vec::new();
        if let (Some(vision), Some(text)) = (&self.vision, &self.text)
            && let (Some(of_images), Some(of_texts)) = (vision.precision, text.precision)
            && of_images != of_texts
        {
            notes.push(format!(
                "its encoders have different precisions, {of_images} for images and {of_texts} for texts"
            ));
        }
        let alone = |tower: &Option<Tower>| tower.as_ref().is_some_and(|tower| tower.depends_on_batch);
        let inputs = match (alone(&self.vision), alone(&self.text)) {
            (true, true) => Some("images and texts"),
            (true, false) => Some("images"),
            (false, true) => Some("texts"),
            (false, false) => None,
        };
        if let Some(inputs) = inputs {
            notes.push(format!(
                "it embeds {inputs} one by one, because its 8-bit weights were quantized dynamically: in a batch, a \
                 vector would depend on the others"
            ));
        }
        let config = &self.config;
        if self.text.is_none() && config.broken.text.is_none() && config.tokenizer.is_some() {
            notes.push(format!(
                "it embeds no texts: it has a {}, but no text encoder",
                config.layout.tokenizer()
            ));
        }
        notes.into_iter().reduce(|all, one| format!("{all}; {one}"))
    }

    /// The same model with its image encoder alone, and with its text encoder alone; `None` if it does not have both in
    /// separate files.
    pub(super) fn halves(&self) -> Option<[ModelCheck; 2]> {
        let ModelFiles::Split { vision: Some(vision), text: Some(text) } = &self.config.files else {
            return None;
        };
        let (mut images, mut texts) = (self.clone(), self.clone());
        images.config.files = ModelFiles::Split { vision: Some(vision.clone()), text: None };
        images.text = None;
        texts.config.files = ModelFiles::Split { vision: None, text: Some(text.clone()) };
        texts.vision = None;
        Some([images, texts])
    }

    /// Length of an embedding, as far as the files say. Fails if they contradict each other.
    pub fn dimensions(&self) -> Result<Option<usize>> {
        let of = |tower: &Option<Tower>| tower.as_ref().and_then(|tower| tower.dimensions);
        let dir = &self.config.dir;
        match (of(&self.vision), of(&self.text), self.config.projection_dim) {
            (Some(image), Some(text), _) if image != text => {
                let reason = format!("the image encoder gives {image} dimensions, the text encoder {text}");
                Err(ClipError::file(dir, reason))
            }
            (Some(found), _, Some(expected)) | (None, Some(found), Some(expected)) if found != expected => {
                let encoder = if of(&self.vision).is_some() { "image" } else { "text" };
                let reason = format!(
                    "the {encoder} encoder gives {found} dimensions, but config.json says {expected}"
                );
                Err(ClipError::file(dir, reason))
            }
            (vision, text, stated) => Ok(vision.or(text).or(stated)),
        }
    }
}

/// The header of a graph whose weights are all there.
fn read_header(path: &Path) -> Result<Header> {
    let header = Header::read(path)?;
    header.weight_files(path)?;
    Ok(header)
}

fn vision_tower(path: &Path, config: &ModelConfig) -> Result<Tower> {
    let header = read_header(path)?;
    tower(path, &header, config, Role::PixelValues)
}

fn text_tower(path: &Path, config: &ModelConfig) -> Result<Tower> {
    let header = read_header(path)?;
    if let Some(tokenizer) = &config.tokenizer {
        tokenizer::check_file(tokenizer)?;
    }
    tower(path, &header, config, Role::InputIds)
}

/// The encoders of a graph that may have both.
fn fused_towers(
    path: &Path,
    header: &Header,
    config: &ModelConfig,
) -> Result<(Option<Tower>, Option<Tower>)> {
    let roles = roles(path, &header.inputs)?;
    let of = |role| {
        let has_it = roles.iter().any(|&(found, _)| found == role);
        has_it.then(|| tower(path, header, config, role)).transpose()
    };
    let (vision, text) = (of(Role::PixelValues)?, of(Role::InputIds)?);
    if text.is_some() {
        match &config.tokenizer {
            Some(tokenizer) => tokenizer::check_file(tokenizer)?,
            None => {
                return Err(ClipError::file(
                    config.dir.join(config.layout.tokenizer()),
                    "the model has a text encoder, but this file is missing",
                ));
            }
        }
    }
    Ok((vision, text))
}

/// The encoder of a graph whose input has this role.
fn tower(path: &Path, header: &Header, config: &ModelConfig, role: Role) -> Result<Tower> {
    let roles = roles(path, &header.inputs)?;
    let place = roles.iter().position(|&(found, _)| found == role);
    let Some(input) = place.and_then(|place| header.inputs.get(place)) else {
        return Err(ClipError::file(path, format!("the graph has no input for {role:?}")));
    };
    if role == Role::PixelValues {
        check_image_size(path, Some(input), config)?;
    }
    Ok(Tower {
        path: path.to_owned(),
        precision: header.precision(),
        opset: header.opset,
        depends_on_batch: header.depends_on_batch(),
        dimensions: dimensions(path, header, config, role)?,
    })
}

/// Length of an embedding; `None` if the graph leaves it, or the shapes of its outputs, to ONNX Runtime.
fn dimensions(path: &Path, header: &Header, config: &ModelConfig, role: Role) -> Result<Option<usize>> {
    if !header.outputs_have_shapes {
        return Ok(None);
    }
    let (output, features) = match role {
        Role::PixelValues => image_output(path, &header.outputs, &config.features)?,
        _ => text_output(path, &header.outputs)?,
    };
    let port = header.outputs.iter().find(|port| port.name == output);
    let axis = |port: &Port| match features {
        Features::Rows | Features::Grid => 1,
        Features::First | Features::MeanFrom(_) => port.shape.len().saturating_sub(1),
    };
    Ok(port.and_then(|port| port.exported_size(axis(port))))
}
