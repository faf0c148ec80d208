//! A generator's directory in the layout of `diffusers`' ONNX exports, read and checked but not loaded.

use std::path::{Path, PathBuf};

use serde_json::Value;

use susx_core::clip::{Preprocessor, PreprocessorConfig, pad_token};
use susx_core::onnx::OnnxError;
use susx_core::onnx::files::{read_json, read_text};
use susx_core::onnx::model_dir::{self, GENERATOR_INDEX};

use super::error::Result;
use super::scheduler::{SchedulerConfig, SchedulerKind};

/// Pipelines of `diffusers` and `optimum` that this crate implements.
const PIPELINES: [&str; 6] = [
    "StableDiffusionPipeline",
    "OnnxStableDiffusionPipeline",
    "StableDiffusionOnnxPipeline",
    "ORTStableDiffusionPipeline",
    "LatentConsistencyModelPipeline",
    "ORTLatentConsistencyModelPipeline",
];

/// A generator's directory, read and checked; nothing is loaded.
#[derive(Clone, Debug)]
pub struct GeneratorConfig {
    /// Name of the directory.
    pub name: String,
    /// The directory, symbolic links resolved.
    pub dir: PathBuf,
    pub(super) graphs: Graphs,
    pub(super) tokenizer: TokenizerFiles,
    /// The preprocessing for the safety checker; `None` for a generator without one.
    pub(super) safety_preprocessor: Option<Preprocessor>,
    pub(super) scheduler: SchedulerConfig,
    /// Height and width of the latents that the U-Net was trained on.
    pub(super) sample_size: (u32, u32),
    pub(super) latent_channels: usize,
    /// Length of the embedded guidance scale (`time_cond_proj_dim`), if the U-Net's configuration states one.
    pub(super) guidance_width: Option<usize>,
    vae_scale_factor: u32,
    /// Factor of the VAE's latents, which gives the U-Net a variance of about 1.
    pub(super) scaling_factor: f32,
}

/// The ONNX files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Graphs {
    pub text_encoder: PathBuf,
    pub unet: PathBuf,
    pub vae_decoder: PathBuf,
    pub safety_checker: Option<PathBuf>,
}

/// The files of the tokenizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TokenizerFiles {
    pub vocabulary: Vocabulary,
    /// The pad token, if a file next to the vocabulary names one.
    pub pad_token: Option<String>,
    /// The most tokens of a prompt, special ones included.
    pub context_length: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Vocabulary {
    /// `tokenizer.json`.
    Whole(PathBuf),
    /// `vocab.json` and `merges.txt` of CLIP's tokenizer.
    Clip { vocabulary: PathBuf, merges: PathBuf },
}

/// The generators of a directory by name, each with its configuration or what is wrong with it.
///
/// They are the subdirectories that [`clip::list_models`](susx_core::clip::list_models) leaves out.
pub fn list_generators(model_dir: &Path) -> Result<Vec<(String, Result<GeneratorConfig>)>> {
    Ok(model_dir::generator_names(model_dir)?
        .into_iter()
        .map(|name| {
            let config = GeneratorConfig::read(model_dir, &name);
            (name, config)
        })
        .collect())
}

impl GeneratorConfig {
    /// Reads and checks the configuration of the generator `name` of `model_dir`. Loads nothing.
    pub fn read(model_dir: &Path, name: &str) -> Result<GeneratorConfig> {
        let dir = model_dir::resolve(model_dir, name)?;
        check_index(&dir)?;
        let graphs = Graphs {
            text_encoder: required(&dir, "text_encoder/model.onnx")?,
            unet: required(&dir, "unet/model.onnx")?,
            vae_decoder: required(&dir, "vae_decoder/model.onnx")?,
            // Only a missing folder disables the checker; a broken checker is an error.
            safety_checker: match dir.join("safety_checker").is_dir() {
                true => Some(required(&dir, "safety_checker/model.onnx")?),
                false => None,
            },
        };
        let safety_preprocessor =
            graphs.safety_checker.is_some().then(|| safety_preprocessor(&dir)).transpose()?;
        let scheduler_path = required(&dir, "scheduler/scheduler_config.json")?;
        let text = read_text(&scheduler_path)?;
        let scheduler =
            SchedulerConfig::from_json(&text).map_err(|reason| OnnxError::file(&scheduler_path, reason))?;
        let unet = Unet::read(&dir)?;
        let vae = Vae::read(&dir)?;
        if unet.channels.is_some_and(|channels| channels != vae.latent_channels) {
            let reason = format!(
                "\"in_channels\" is {}, but the VAE's latents have {} channels: expected a text-to-image U-Net",
                unet.channels.unwrap_or_default(),
                vae.latent_channels
            );
            return Err(OnnxError::file(dir.join("unet/config.json"), reason).into());
        }
        Ok(GeneratorConfig {
            name: name.to_owned(),
            graphs,
            tokenizer: TokenizerFiles::read(&dir)?,
            safety_preprocessor,
            scheduler,
            sample_size: unet.sample_size,
            latent_channels: vae.latent_channels,
            guidance_width: unet.guidance_width,
            vae_scale_factor: vae.scale_factor,
            scaling_factor: vae.scaling_factor,
            dir,
        })
    }

    /// Default height and width of an image, in pixels.
    pub fn image_size(&self) -> (u32, u32) {
        (self.sample_size.0 * self.vae_scale_factor, self.sample_size.1 * self.vae_scale_factor)
    }

    /// Pixels per latent along one side, such as 8. Heights and widths of images are multiples of it.
    pub fn vae_scale_factor(&self) -> u32 {
        self.vae_scale_factor
    }

    /// The scheduler.
    pub fn scheduler(&self) -> SchedulerKind {
        self.scheduler.kind
    }

    /// Whether a safety checker checks every image.
    pub fn has_safety_checker(&self) -> bool {
        self.graphs.safety_checker.is_some()
    }
}

fn required(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    match path.is_file() {
        true => Ok(path),
        false => Err(OnnxError::file(dir, format!("there is no {name}")).into()),
    }
}

fn check_index(dir: &Path) -> Result<()> {
    let path = required(dir, GENERATOR_INDEX)?;
    let index = read_json(&path)?.unwrap_or(Value::Null);
    match index["_class_name"].as_str() {
        Some(class) if PIPELINES.contains(&class) => Ok(()),
        Some(class) => {
            let expected = PIPELINES[..2].join(" or ");
            Err(OnnxError::file(path, format!("\"_class_name\" is {class:?}: expected {expected}")).into())
        }
        None => Err(OnnxError::file(path, "\"_class_name\" is missing").into()),
    }
}

fn safety_preprocessor(dir: &Path) -> Result<Preprocessor> {
    let path = required(dir, "feature_extractor/preprocessor_config.json")?;
    let text = read_text(&path)?;
    let preprocessor = PreprocessorConfig::from_json(&text).and_then(|config| Preprocessor::new(&config));
    Ok(preprocessor.map_err(|reason| OnnxError::file(&path, reason))?)
}

impl TokenizerFiles {
    fn read(dir: &Path) -> Result<TokenizerFiles> {
        let folder = dir.join("tokenizer");
        let whole = folder.join("tokenizer.json");
        let (vocabulary, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
        let vocabulary = match (whole.is_file(), vocabulary.is_file() && merges.is_file()) {
            (true, _) => Vocabulary::Whole(whole),
            (false, true) => Vocabulary::Clip { vocabulary, merges },
            (false, false) => {
                let reason = "there is neither tokenizer/tokenizer.json nor tokenizer/vocab.json with tokenizer/merges.txt";
                return Err(OnnxError::file(dir, reason).into());
            }
        };
        let config = read_json(&folder.join("tokenizer_config.json"))?.unwrap_or(Value::Null);
        let special_tokens = read_json(&folder.join("special_tokens_map.json"))?.unwrap_or(Value::Null);
        // In the order of `transformers`: the files of SD 2 name two pad tokens, and it was trained with the first.
        let pad_token = match config.get("added_tokens_decoder") {
            Some(_) => pad_token(&config).or_else(|| pad_token(&special_tokens)),
            None => pad_token(&special_tokens).or_else(|| pad_token(&config)),
        };
        let stated = config["model_max_length"].as_u64().filter(|length| (3..=8192).contains(length));
        Ok(TokenizerFiles { vocabulary, pad_token, context_length: stated.unwrap_or(77) as usize })
    }
}

/// The content of `unet/config.json`; fields or the file may be missing.
struct Unet {
    sample_size: (u32, u32),
    channels: Option<usize>,
    guidance_width: Option<usize>,
}

impl Unet {
    fn read(dir: &Path) -> Result<Unet> {
        let path = dir.join("unet/config.json");
        let config = read_json(&path)?.unwrap_or(Value::Null);
        let side =
            |value: &Value| value.as_u64().filter(|side| (1..=512).contains(side)).map(|side| side as u32);
        let sample_size = match &config["sample_size"] {
            // The default of SD 1.
            Value::Null => Some((64, 64)),
            Value::Array(sides) => match sides.as_slice() {
                [height, width] => side(height).zip(side(width)),
                _ => None,
            },
            square => side(square).map(|side| (side, side)),
        };
        let sample_size = sample_size.ok_or_else(|| {
            let found = &config["sample_size"];
            OnnxError::file(
                &path,
                format!("\"sample_size\" is {found}: expected 1 to 512, or two such numbers"),
            )
        })?;
        let channels = config["in_channels"].as_u64().map(|channels| channels as usize);
        let guidance_width =
            config["time_cond_proj_dim"].as_u64().and_then(|width| usize::try_from(width).ok());
        Ok(Unet { sample_size, channels, guidance_width })
    }
}

/// The content of `vae_decoder/config.json`; fields or the file may be missing.
struct Vae {
    scale_factor: u32,
    latent_channels: usize,
    scaling_factor: f32,
}

impl Vae {
    fn read(dir: &Path) -> Result<Vae> {
        let path = dir.join("vae_decoder/config.json");
        let config = read_json(&path)?.unwrap_or(Value::Null);
        let wrong = |field: &str, expected: &str| {
            let reason = format!("\"{field}\" is {}: expected {expected}", config[field]);
            OnnxError::file(&path, reason)
        };
        // Each block except the first halves height and width.
        let blocks = match &config["block_out_channels"] {
            Value::Null => 4,
            blocks => match blocks.as_array().map(Vec::len) {
                Some(blocks @ 1..=8) => blocks,
                _ => return Err(wrong("block_out_channels", "1 to 8 numbers").into()),
            },
        };
        let latent_channels = match &config["latent_channels"] {
            Value::Null => 4,
            channels => match channels.as_u64() {
                Some(channels @ 1..=64) => channels as usize,
                _ => return Err(wrong("latent_channels", "1 to 64").into()),
            },
        };
        let scaling_factor = match &config["scaling_factor"] {
            Value::Null => 0.18215,
            factor => match factor.as_f64() {
                Some(factor) if factor.is_finite() && factor > 0.0 => factor as f32,
                _ => return Err(wrong("scaling_factor", "a positive number").into()),
            },
        };
        Ok(Vae { scale_factor: 1 << (blocks - 1), latent_channels, scaling_factor })
    }
}
