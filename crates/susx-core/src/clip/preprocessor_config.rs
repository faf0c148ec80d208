//! `preprocessor_config.json`: how a model wants its pictures resized, cropped and normalised.
//!
//! Understood are the fields of Hugging Face's `CLIPImageProcessor`, `SiglipImageProcessor` and
//! `ViTImageProcessor` (and of their older `…FeatureExtractor` and newer `…ImageProcessorFast`
//! names), which OpenAI's CLIP, OpenCLIP, MobileCLIP and SigLIP are exported with. A field that is
//! left out has the default of its class, as when `transformers` reads the file.

use serde::Deserialize;

/// Target of the resize.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// The shorter side becomes this long; the aspect ratio is kept.
    ShortestEdge(u32),
    /// Exactly this size; the aspect ratio is lost, as SigLIP wants it.
    Exact {
        /// Rows, in pixels.
        height: u32,
        /// Columns, in pixels.
        width: u32,
    },
}

/// Pillow's resampling filters, by the numbers that the file uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resample {
    /// 0
    Nearest,
    /// 1
    Lanczos,
    /// 2
    Bilinear,
    /// 3
    Bicubic,
}

/// The checked content of a `preprocessor_config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct PreprocessorConfig {
    /// `None` if `do_resize` is false.
    pub resize: Option<Resize>,
    /// Filter of the resize.
    pub resample: Resample,
    /// Height and width of the centre crop; `None` if `do_center_crop` is false.
    pub crop: Option<(u32, u32)>,
    /// Factor of the grey levels 0 to 255; 1 if `do_rescale` is false.
    pub rescale_factor: f64,
    /// Subtracted from each channel after the rescaling; 0 if `do_normalize` is false.
    pub mean: [f64; 3],
    /// Divides each channel after the subtraction; 1 if `do_normalize` is false.
    pub std: [f64; 3],
}

/// No model takes larger pictures; a typing error should not allocate gigabytes.
const LARGEST_SIDE: u32 = 4096;

#[derive(Deserialize)]
struct File {
    image_processor_type: Option<String>,
    /// The older name of `image_processor_type`; some files have both.
    feature_extractor_type: Option<String>,
    do_resize: Option<bool>,
    size: Option<Size>,
    resample: Option<u32>,
    do_center_crop: Option<bool>,
    crop_size: Option<Size>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<Vec<f64>>,
    image_std: Option<Vec<f64>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    Side(u32),
    Exact { height: u32, width: u32 },
    ShortestEdge { shortest_edge: u32 },
}

/// What a class assumes for the fields that its file leaves out.
struct Defaults {
    size: Size,
    resample: u32,
    crop_size: Option<u32>,
    mean: [f64; 3],
    std: [f64; 3],
    /// An integer as `size` is a square, not the shortest edge.
    square: bool,
}

const CLIP: Defaults = Defaults {
    size: Size::ShortestEdge { shortest_edge: 224 },
    resample: 3,
    crop_size: Some(224),
    mean: [0.48145466, 0.4578275, 0.40821073],
    std: [0.26862954, 0.26130258, 0.27577711],
    square: false,
};
const SIGLIP: Defaults = Defaults {
    size: Size::Exact { height: 224, width: 224 },
    resample: 3,
    crop_size: None,
    mean: [0.5; 3],
    std: [0.5; 3],
    square: true,
};
const VIT: Defaults = Defaults { resample: 2, ..SIGLIP };

/// The defaults of a class; `None` if we do not know it. A file that names no class is CLIP's.
fn defaults_of(class: Option<&str>) -> Option<Defaults> {
    let Some(class) = class else { return Some(CLIP) };
    let class = class.trim_end_matches("Fast");
    match class.trim_end_matches("ImageProcessor").trim_end_matches("FeatureExtractor") {
        "CLIP" | "ChineseCLIP" => Some(CLIP),
        "Siglip" => Some(SIGLIP),
        "ViT" => Some(VIT),
        _ => None,
    }
}

impl PreprocessorConfig {
    /// Reads the text of the file. The error is a sentence about what is wrong with it.
    pub fn from_json(text: &str) -> Result<PreprocessorConfig, String> {
        let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let class = file.image_processor_type.as_deref().or(file.feature_extractor_type.as_deref());
        let defaults = defaults_of(class);
        // Guessing for a class that we do not know would give vectors that are subtly wrong.
        let missing = |field: &str| {
            format!(
                "\"{field}\" is missing, and the defaults of {} are not known",
                class.unwrap_or("this file")
            )
        };
        macro_rules! field {
            ($name:ident, $default:expr) => {
                match (file.$name, &defaults) {
                    (Some(value), _) => value,
                    (None, Some(defaults)) => $default(defaults),
                    (None, None) => return Err(missing(stringify!($name))),
                }
            };
        }

        let square = defaults.as_ref().is_some_and(|defaults| defaults.square);
        let resize = if file.do_resize.unwrap_or(true) {
            Some(match field!(size, |defaults: &Defaults| defaults.size) {
                Size::Side(side) if square => Resize::Exact { height: checked("size", side)?, width: side },
                Size::Side(side) | Size::ShortestEdge { shortest_edge: side } => {
                    Resize::ShortestEdge(checked("size", side)?)
                }
                Size::Exact { height, width } => {
                    Resize::Exact { height: checked("size", height)?, width: checked("size", width)? }
                }
            })
        } else {
            None
        };
        let crop = if field!(do_center_crop, |defaults: &Defaults| defaults.crop_size.is_some()) {
            let default = |defaults: &Defaults| Size::Side(defaults.crop_size.unwrap_or(224));
            Some(match field!(crop_size, default) {
                Size::Side(side) => (checked("crop_size", side)?, side),
                Size::Exact { height, width } => {
                    (checked("crop_size", height)?, checked("crop_size", width)?)
                }
                Size::ShortestEdge { .. } => {
                    return Err("\"crop_size\" has a shortest_edge: height and width were expected".into());
                }
            })
        } else {
            None
        };
        let resample = match field!(resample, |defaults: &Defaults| defaults.resample) {
            0 => Resample::Nearest,
            1 => Resample::Lanczos,
            2 => Resample::Bilinear,
            3 => Resample::Bicubic,
            other => {
                return Err(format!(
                    "\"resample\" is {other}: expected 0 (nearest), 1 (lanczos), 2 (bilinear) or 3 (bicubic)"
                ));
            }
        };
        let rescale_factor =
            if file.do_rescale.unwrap_or(true) { file.rescale_factor.unwrap_or(1.0 / 255.0) } else { 1.0 };
        if !rescale_factor.is_finite() || rescale_factor <= 0.0 {
            return Err(format!("\"rescale_factor\" is {rescale_factor}: expected a positive number"));
        }
        let (mean, std) = if file.do_normalize.unwrap_or(true) {
            let mean = field!(image_mean, |defaults: &Defaults| defaults.mean.to_vec());
            let std = field!(image_std, |defaults: &Defaults| defaults.std.to_vec());
            (channels("image_mean", &mean)?, channels("image_std", &std)?)
        } else {
            ([0.0; 3], [1.0; 3])
        };
        if std.iter().any(|&std| std <= 0.0) {
            return Err(format!("\"image_std\" is {std:?}: expected positive numbers"));
        }
        let config = PreprocessorConfig { resize, resample, crop, rescale_factor, mean, std };
        config.size()?;
        Ok(config)
    }

    /// Height and width of every result, in pixels; an error if they would differ from image to image.
    pub(crate) fn size(&self) -> Result<(u32, u32), String> {
        match (self.crop, self.resize) {
            (Some(crop), _) => Ok(crop),
            (None, Some(Resize::Exact { height, width })) => Ok((height, width)),
            (None, Some(Resize::ShortestEdge(_)) | None) => {
                Err("the size of the result would depend on the image: no crop_size, and no height and width in size".into())
            }
        }
    }
}

fn checked(field: &str, side: u32) -> Result<u32, String> {
    match side {
        1..=LARGEST_SIDE => Ok(side),
        _ => Err(format!("\"{field}\" is {side}: expected 1 to {LARGEST_SIDE} pixels")),
    }
}

fn channels(field: &str, values: &[f64]) -> Result<[f64; 3], String> {
    match values {
        &[r, g, b] if values.iter().all(|value| value.is_finite()) => Ok([r, g, b]),
        _ => Err(format!("\"{field}\" is {values:?}: expected three finite numbers")),
    }
}
