//! `preprocessor_config.json`: how to resize, crop and normalise the images of a model.
//!
//! The fields of Hugging Face's image processors for CLIP, SigLIP, ViT, DeiT, BEiT, BiT (DINOv2), DINOv3, ConvNeXT and
//! EfficientNet are supported, also under the older names `…FeatureExtractor` and the newer names `…ImageProcessorFast`.
//! A field that is left out has the default of its class, as when `transformers` reads the file. A field that would
//! change pixels in a way that is not implemented is an error.

use serde::Deserialize;
use serde_json::Value;

use super::centre_crop::Rounding;
use crate::onnx::python_json;

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
    /// The largest size within this one that keeps the aspect ratio: `longest` of open_clip.
    Within {
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
    /// Subtracted from each channel after the rescaling: the mean, 0 if `do_normalize` is false, and the 1 of
    /// `rescale_offset`.
    pub mean: [f64; 3],
    /// Divides each channel after the subtraction; 1 if `do_normalize` is false. Squared if `include_top` is true, for
    /// which EfficientNet divides twice.
    pub std: [f64; 3],
    /// Whose rules round the size and the crop. The file does not say.
    pub rounding: Rounding,
    /// Colour of the padding of an image that is smaller than the crop.
    pub fill: [u8; 3],
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
    /// ConvNeXT: the part of the resized image's side that the crop keeps.
    crop_pct: Option<f64>,
    /// EfficientNet: 1 is subtracted after the rescaling.
    rescale_offset: Option<bool>,
    /// EfficientNet: divided by the standard deviation once more.
    include_top: Option<bool>,
    do_pad: Option<bool>,
    do_flip_channel_order: Option<bool>,
    do_grayscale: Option<bool>,
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
    ShortestEdge { shortest_edge: u32, longest_edge: Option<u32> },
}

impl Size {
    const fn shortest_edge(side: u32) -> Size {
        Size::ShortestEdge { shortest_edge: side, longest_edge: None }
    }
}

/// What a class does with its fields.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rules {
    /// Resize to `size`, crop to `crop_size`, rescale, normalise.
    Plain,
    /// `size` is the result's side. A side below 384 pixels is cut out of an image resized to side / `crop_pct`; at 384
    /// and more, the image is resized to it exactly.
    ConvNext,
    /// Plain, with `rescale_offset` and `include_top`.
    EfficientNet,
}

/// The defaults of a class.
struct Defaults {
    size: Size,
    resample: u32,
    do_center_crop: bool,
    crop_size: u32,
    mean: [f64; 3],
    std: [f64; 3],
    /// A single number as `size` is a square, not the shortest edge.
    square: bool,
    rules: Rules,
}

const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];

const CLIP: Defaults = Defaults {
    size: Size::shortest_edge(224),
    resample: 3,
    do_center_crop: true,
    crop_size: 224,
    mean: [0.48145466, 0.4578275, 0.40821073],
    std: [0.26862954, 0.26130258, 0.27577711],
    square: false,
    rules: Rules::Plain,
};
const SIGLIP: Defaults = Defaults {
    size: Size::Exact { height: 224, width: 224 },
    do_center_crop: false,
    mean: [0.5; 3],
    std: [0.5; 3],
    square: true,
    ..CLIP
};
const VIT: Defaults = Defaults { resample: 2, ..SIGLIP };
const DEIT: Defaults =
    Defaults { size: Size::Exact { height: 256, width: 256 }, do_center_crop: true, ..SIGLIP };
/// `transformers` rescales before it resizes, which spares the rounding to grey levels. That is all the difference.
const DINO_V3: Defaults = Defaults { mean: IMAGENET_MEAN, std: IMAGENET_STD, ..VIT };
const CONVNEXT: Defaults =
    Defaults { size: Size::shortest_edge(384), square: false, rules: Rules::ConvNext, ..VIT };
const EFFICIENTNET: Defaults = Defaults {
    size: Size::Exact { height: 346, width: 346 },
    resample: 0,
    crop_size: 289,
    rules: Rules::EfficientNet,
    ..SIGLIP
};

/// The part that ConvNeXT's crop keeps where the file does not say.
const CROP_PCT: f64 = 224.0 / 256.0;
/// From this side on, ConvNeXT's images are not cropped.
const UNCROPPED: u32 = 384;

/// Classes that do something else with the same fields.
const OTHER_RULES: [&str; 3] = ["Levit", "Perceiver", "PoolFormer"];

/// The defaults of a class; `None` if it is unknown. A file without a class is CLIP's.
///
/// ImageNet's mean and deviation are in `transformers` IMAGENET_DEFAULT; its IMAGENET_STANDARD is 0.5.
fn defaults_of(class: Option<&str>) -> Option<Defaults> {
    let Some(class) = class else { return Some(CLIP) };
    Some(match stem(class) {
        // BiT is the class of DINOv2's files too, which name every field that differs.
        "CLIP" | "ChineseCLIP" | "Bit" => CLIP,
        "Siglip" => SIGLIP,
        "ViT" => VIT,
        "DeiT" => DEIT,
        // The newer class does not crop.
        "Beit" if class.ends_with("Fast") => SIGLIP,
        "Beit" => DEIT,
        "DINOv3ViT" => DINO_V3,
        "ConvNext" => CONVNEXT,
        "EfficientNet" => EFFICIENTNET,
        _ => return None,
    })
}

/// The name of a class without what all of them end with.
fn stem(class: &str) -> &str {
    class.trim_end_matches("Fast").trim_end_matches("ImageProcessor").trim_end_matches("FeatureExtractor")
}

/// The resize, and height and width of the centre crop.
type Geometry = (Option<Resize>, Option<(u32, u32)>);

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

    fn rules(&self) -> Rules {
        self.defaults.as_ref().map_or(Rules::Plain, |defaults| defaults.rules)
    }

    /// Fails if the file asks for something that is not implemented, or that its class does not do.
    fn check(&self) -> Result<(), String> {
        let class = self.file.class().unwrap_or("a file without a class");
        if OTHER_RULES.contains(&stem(class)) {
            return Err(format!("the rules of {class} are not implemented"));
        }
        let rules = self.rules();
        let is_true = |value: Option<bool>| value == Some(true);
        let crops = is_true(self.file.do_center_crop) && rules == Rules::ConvNext;
        let refused = [
            ("do_pad", is_true(self.file.do_pad)),
            ("do_flip_channel_order", is_true(self.file.do_flip_channel_order)),
            ("do_grayscale", is_true(self.file.do_grayscale)),
            ("do_center_crop", crops),
            ("crop_pct", self.file.crop_pct.is_some() && rules != Rules::ConvNext),
            ("rescale_offset", is_true(self.file.rescale_offset) && rules != Rules::EfficientNet),
            ("include_top", is_true(self.file.include_top) && rules != Rules::EfficientNet),
        ];
        match refused.iter().find(|(_, is_refused)| *is_refused) {
            Some((field, _)) => Err(format!("\"{field}\" is not supported for {class}")),
            None => Ok(()),
        }
    }

    fn geometry(&self) -> Result<Geometry, String> {
        match self.rules() {
            Rules::ConvNext => self.resize_and_crop_of_convnext(),
            Rules::Plain | Rules::EfficientNet => Ok((self.resize()?, self.crop()?)),
        }
    }

    fn resize_and_crop_of_convnext(&self) -> Result<Geometry, String> {
        if !self.file.do_resize.unwrap_or(true) {
            return Ok((None, None));
        }
        let side = match self.size()? {
            Resize::ShortestEdge(side) => side,
            Resize::Exact { height, width } | Resize::Within { height, width } => {
                return Err(format!("\"size\" is {height} × {width}: ConvNeXT's has a shortest_edge"));
            }
        };
        if side >= UNCROPPED {
            return Ok((Some(Resize::Exact { height: side, width: side }), None));
        }
        let kept = self.file.crop_pct.unwrap_or(CROP_PCT);
        if !(kept > 0.0 && kept <= 1.0) {
            return Err(format!("\"crop_pct\" is {kept}: expected more than 0, up to 1"));
        }
        // Rounded down, as Python's int() does.
        let resized = checked("size", (f64::from(side) / kept) as u32)?;
        Ok((Some(Resize::ShortestEdge(resized)), Some((side, side))))
    }

    fn resize(&self) -> Result<Option<Resize>, String> {
        self.file.do_resize.unwrap_or(true).then(|| self.size()).transpose()
    }

    fn size(&self) -> Result<Resize, String> {
        let is_square = self.defaults.as_ref().is_some_and(|defaults| defaults.square);
        Ok(match self.value("size", self.file.size, |defaults| defaults.size)? {
            Size::Side(side) if is_square => Resize::Exact { height: checked("size", side)?, width: side },
            Size::Side(side) | Size::ShortestEdge { shortest_edge: side, longest_edge: None } => {
                Resize::ShortestEdge(checked("size", side)?)
            }
            Size::Exact { height, width } => {
                Resize::Exact { height: checked("size", height)?, width: checked("size", width)? }
            }
            Size::ShortestEdge { longest_edge: Some(_), .. } => {
                return Err("\"size\" has a longest_edge, which is not supported".into());
            }
        })
    }

    fn crop(&self) -> Result<Option<(u32, u32)>, String> {
        if !self.value("do_center_crop", self.file.do_center_crop, |defaults| defaults.do_center_crop)? {
            return Ok(None);
        }
        let default = |defaults: &Defaults| Size::Side(defaults.crop_size);
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

    /// What is subtracted from each channel after the rescaling, and what divides it then.
    fn normalisation(&self) -> Result<([f64; 3], [f64; 3]), String> {
        let normalises = self.file.do_normalize.unwrap_or(true);
        let is_of_efficientnet = self.rules() == Rules::EfficientNet;
        let includes_top = is_of_efficientnet && self.file.include_top.unwrap_or(true);
        let std = match normalises || includes_top {
            true => self.deviation()?,
            false => [1.0; 3],
        };
        let mean = match normalises {
            true => self.mean()?,
            false => [0.0; 3],
        };
        // `rescale_offset` is part of the rescaling.
        let is_offset = is_of_efficientnet
            && self.file.do_rescale.unwrap_or(true)
            && self.file.rescale_offset.unwrap_or(false);
        let offset = if is_offset { 1.0 } else { 0.0 };
        let divides_twice = normalises && includes_top;
        Ok((mean.map(|mean| mean + offset), std.map(|std| if divides_twice { std * std } else { std })))
    }

    fn mean(&self) -> Result<[f64; 3], String> {
        let mean = self.value("image_mean", self.file.image_mean.clone(), |it| it.mean.to_vec())?;
        channels("image_mean", &mean)
    }

    fn deviation(&self) -> Result<[f64; 3], String> {
        let std = self.value("image_std", self.file.image_std.clone(), |it| it.std.to_vec())?;
        let std = channels("image_std", &std)?;
        match std.iter().all(|&std| std > 0.0) {
            true => Ok(std),
            false => Err(format!("\"image_std\" is {std:?}: expected positive numbers")),
        }
    }
}

impl PreprocessorConfig {
    /// Reads the text of a `preprocessor_config.json`, or of a `processor_config.json`, which has the same fields in
    /// `image_processor`. The error is a sentence about what is wrong with it.
    pub fn from_json(text: &str) -> Result<PreprocessorConfig, String> {
        let mut value = python_json::parse(text).map_err(|error| error.to_string())?;
        if let Some(nested @ Value::Object(_)) = value.get_mut("image_processor") {
            value = nested.take();
        }
        let file: File = serde_json::from_value(value).map_err(|error| error.to_string())?;
        let fields = Fields { defaults: defaults_of(file.class()), file };
        fields.check()?;
        let ((resize, crop), resample) = (fields.geometry()?, fields.resample()?);
        let rescale_factor = fields.rescale_factor()?;
        let (mean, std) = fields.normalisation()?;
        let (rounding, fill) = (Rounding::default(), [0; 3]);
        let config = PreprocessorConfig { resize, resample, crop, rescale_factor, mean, std, rounding, fill };
        config.size()?;
        Ok(config)
    }

    /// Height and width of every result, in pixels. Fails if they would depend on the image.
    pub(super) fn size(&self) -> Result<(u32, u32), String> {
        match (self.crop, self.resize) {
            (Some(crop), _) => Ok(crop),
            (None, Some(Resize::Exact { height, width })) => Ok((height, width)),
            (None, Some(Resize::ShortestEdge(_) | Resize::Within { .. }) | None) => {
                Err("the size of the result would depend on the image: no crop_size, and no height and width in size".into())
            }
        }
    }
}

pub(super) fn checked(field: &str, side: u32) -> Result<u32, String> {
    match side {
        1..=MAX_SIDE => Ok(side),
        _ => Err(format!("\"{field}\" is {side}: expected 1 to {MAX_SIDE} pixels")),
    }
}

pub(super) fn channels(field: &str, values: &[f64]) -> Result<[f64; 3], String> {
    match values {
        &[r, g, b] if values.iter().all(|value| value.is_finite()) => Ok([r, g, b]),
        _ => Err(format!("\"{field}\" is {values:?}: expected three finite numbers")),
    }
}
