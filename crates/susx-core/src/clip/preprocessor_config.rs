//! `preprocessor_config.json`: how to resize, crop and normalise the images of a model.
//!
//! The fields of Hugging Face's `CLIPImageProcessor`, `SiglipImageProcessor` and `ViTImageProcessor` are supported,
//! also under the older names `…FeatureExtractor` and the newer names `…ImageProcessorFast`. OpenAI's CLIP, OpenCLIP,
//! MobileCLIP and SigLIP are exported with them. A field that is left out has the default of its class, as when
//! `transformers` reads the file.

use serde::Deserialize;

/// Target size of the resize.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// The shorter side becomes this long; the aspect ratio is kept.
    ShortestEdge(u32),
    /// Exactly this size; the aspect ratio is not kept, as for SigLIP.
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

/// Limit of height and width, in pixels. No model takes larger images, and a typing error must not allocate gigabytes.
const MAX_SIDE: u32 = 4096;

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

impl File {
    fn class(&self) -> Option<&str> {
        self.image_processor_type.as_deref().or(self.feature_extractor_type.as_deref())
    }
}

/// The filters of `resample`, by their numbers.
const FILTERS: [Resample; 4] = [Resample::Nearest, Resample::Lanczos, Resample::Bilinear, Resample::Bicubic];

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    Side(u32),
    Exact { height: u32, width: u32 },
    ShortestEdge { shortest_edge: u32 },
}

/// The defaults of a class.
struct Defaults {
    size: Size,
    resample: u32,
    crop_size: Option<u32>,
    mean: [f64; 3],
    std: [f64; 3],
    /// A single number as `size` is a square, not the shortest edge.
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

/// The defaults of a class; `None` if it is unknown. A file without a class is CLIP's.
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

/// A file, and the defaults of its class if the class is known.
struct Fields {
    file: File,
    defaults: Option<Defaults>,
}

impl Fields {
    /// The value of a field, else the default of the class. An unknown class has no defaults: guessing them would give
    /// vectors that are subtly wrong.
    fn value<T>(&self, name: &str, value: Option<T>, default: impl Fn(&Defaults) -> T) -> Result<T, String> {
        value.or_else(|| self.defaults.as_ref().map(default)).ok_or_else(|| {
            let class = self.file.class().unwrap_or("this file");
            format!("\"{name}\" is missing, and the defaults of {class} are not known")
        })
    }

    fn resize(&self) -> Result<Option<Resize>, String> {
        if !self.file.do_resize.unwrap_or(true) {
            return Ok(None);
        }
        let is_square = self.defaults.as_ref().is_some_and(|defaults| defaults.square);
        Ok(Some(match self.value("size", self.file.size, |defaults| defaults.size)? {
            Size::Side(side) if is_square => Resize::Exact { height: checked("size", side)?, width: side },
            Size::Side(side) | Size::ShortestEdge { shortest_edge: side } => {
                Resize::ShortestEdge(checked("size", side)?)
            }
            Size::Exact { height, width } => {
                Resize::Exact { height: checked("size", height)?, width: checked("size", width)? }
            }
        }))
    }

    fn crop(&self) -> Result<Option<(u32, u32)>, String> {
        let does_crop = |defaults: &Defaults| defaults.crop_size.is_some();
        if !self.value("do_center_crop", self.file.do_center_crop, does_crop)? {
            return Ok(None);
        }
        let default = |defaults: &Defaults| Size::Side(defaults.crop_size.unwrap_or(224));
        match self.value("crop_size", self.file.crop_size, default)? {
            Size::Side(side) => Ok(Some((checked("crop_size", side)?, side))),
            Size::Exact { height, width } => {
                Ok(Some((checked("crop_size", height)?, checked("crop_size", width)?)))
            }
            Size::ShortestEdge { .. } => {
                Err("\"crop_size\" has a shortest_edge: height and width were expected".into())
            }
        }
    }

    fn resample(&self) -> Result<Resample, String> {
        let number = self.value("resample", self.file.resample, |defaults| defaults.resample)?;
        let filter = usize::try_from(number).ok().and_then(|number| FILTERS.get(number));
        filter.copied().ok_or_else(|| {
            format!(
                "\"resample\" is {number}: expected 0 (nearest), 1 (lanczos), 2 (bilinear) or 3 (bicubic)"
            )
        })
    }

    fn rescale_factor(&self) -> Result<f64, String> {
        let does_rescale = self.file.do_rescale.unwrap_or(true);
        let factor = if does_rescale { self.file.rescale_factor.unwrap_or(1.0 / 255.0) } else { 1.0 };
        match factor.is_finite() && factor > 0.0 {
            true => Ok(factor),
            false => Err(format!("\"rescale_factor\" is {factor}: expected a positive number")),
        }
    }

    /// Mean and standard deviation of each channel.
    fn normalisation(&self) -> Result<([f64; 3], [f64; 3]), String> {
        if !self.file.do_normalize.unwrap_or(true) {
            return Ok(([0.0; 3], [1.0; 3]));
        }
        let (mean, std) = (self.file.image_mean.clone(), self.file.image_std.clone());
        let mean = self.value("image_mean", mean, |defaults| defaults.mean.to_vec())?;
        let std = self.value("image_std", std, |defaults| defaults.std.to_vec())?;
        let (mean, std) = (channels("image_mean", &mean)?, channels("image_std", &std)?);
        match std.iter().all(|&std| std > 0.0) {
            true => Ok((mean, std)),
            false => Err(format!("\"image_std\" is {std:?}: expected positive numbers")),
        }
    }
}

impl PreprocessorConfig {
    /// Reads the text of a `preprocessor_config.json`. The error is a sentence about what is wrong with it.
    pub fn from_json(text: &str) -> Result<PreprocessorConfig, String> {
        let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let fields = Fields { defaults: defaults_of(file.class()), file };
        let (resize, crop, resample) = (fields.resize()?, fields.crop()?, fields.resample()?);
        let rescale_factor = fields.rescale_factor()?;
        let (mean, std) = fields.normalisation()?;
        let config = PreprocessorConfig { resize, resample, crop, rescale_factor, mean, std };
        config.size()?;
        Ok(config)
    }

    /// Height and width of every result, in pixels. Fails if they would depend on the image.
    pub(super) fn size(&self) -> Result<(u32, u32), String> {
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
        1..=MAX_SIDE => Ok(side),
        _ => Err(format!("\"{field}\" is {side}: expected 1 to {MAX_SIDE} pixels")),
    }
}

fn channels(field: &str, values: &[f64]) -> Result<[f64; 3], String> {
    match values {
        &[r, g, b] if values.iter().all(|value| value.is_finite()) => Ok([r, g, b]),
        _ => Err(format!("\"{field}\" is {values:?}: expected three finite numbers")),
    }
}
