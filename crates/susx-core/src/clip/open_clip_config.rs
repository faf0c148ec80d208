//! `preprocess_cfg.json` of open_clip, which Immich keeps next to its image encoders.

use serde::Deserialize;

use super::centre_crop::Rounding;
use super::preprocessor_config::{PreprocessorConfig, Resample, Resize, channels, checked};
use crate::onnx::python_json;

/// The fields of open_clip's `PreprocessCfg`, with its defaults.
#[derive(Deserialize)]
#[serde(default)]
struct File {
    size: Size,
    mode: String,
    mean: Vec<f64>,
    std: Vec<f64>,
    interpolation: String,
    resize_mode: String,
    fill_color: Colour,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    Side(u32),
    HeightAndWidth(u32, u32),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Colour {
    Grey(u8),
    Rgb(u8, u8, u8),
}

impl Default for File {
    fn default() -> File {
        File {
            size: Size::Side(224),
            mode: "RGB".to_owned(),
            mean: vec![0.48145466, 0.4578275, 0.40821073],
            std: vec![0.26862954, 0.26130258, 0.27577711],
            interpolation: "bicubic".to_owned(),
            resize_mode: "shortest".to_owned(),
            fill_color: Colour::Grey(0),
        }
    }
}

/// Reads the text of a `preprocess_cfg.json`. The error is a sentence about what is wrong with it.
pub(super) fn from_json(text: &str) -> Result<PreprocessorConfig, String> {
    let value = python_json::parse(text).map_err(|error| error.to_string())?;
    let file: File = serde_json::from_value(value).map_err(|error| error.to_string())?;
    if file.mode != "RGB" {
        return Err(format!("\"mode\" is {:?}: expected \"RGB\"", file.mode));
    }
    let (height, width) = match file.size {
        Size::Side(side) => (checked("size", side)?, side),
        Size::HeightAndWidth(height, width) => (checked("size", height)?, checked("size", width)?),
    };
    let exact = Some((height, width));
    let (resize, crop) = match file.resize_mode.as_str() {
        "shortest" if height == width => (Resize::ShortestEdge(height), exact),
        "shortest" => {
            let reason =
                format!("\"size\" is {height} × {width}: expected a square for \"resize_mode\" \"shortest\"");
            return Err(reason);
        }
        "longest" => (Resize::Within { height, width }, exact),
        "squash" => (Resize::Exact { height, width }, None),
        other => {
            return Err(format!(
                "\"resize_mode\" is {other:?}: expected \"shortest\", \"longest\" or \"squash\""
            ));
        }
    };
    let resample = match file.interpolation.as_str() {
        "nearest" => Resample::Nearest,
        "lanczos" => Resample::Lanczos,
        "bilinear" => Resample::Bilinear,
        "bicubic" => Resample::Bicubic,
        other => {
            return Err(format!(
                "\"interpolation\" is {other:?}: expected \"nearest\", \"lanczos\", \"bilinear\" or \"bicubic\""
            ));
        }
    };
    let std = channels("std", &file.std)?;
    if !std.iter().all(|&std| std > 0.0) {
        return Err(format!("\"std\" is {std:?}: expected positive numbers"));
    }
    Ok(PreprocessorConfig {
        resize: Some(resize),
        resample,
        crop,
        rescale_factor: 1.0 / 255.0,
        mean: channels("mean", &file.mean)?,
        std,
        rounding: Rounding::Immich,
        fill: match file.fill_color {
            Colour::Grey(grey) => [grey; 3],
            Colour::Rgb(red, green, blue) => [red, green, blue],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_open_clip() {
        let config = from_json("{}").unwrap();
        assert_eq!((config.resize, config.crop), (Some(Resize::ShortestEdge(224)), Some((224, 224))));
        assert_eq!((config.resample, config.fill), (Resample::Bicubic, [0; 3]));
        assert_eq!(config.mean, [0.48145466, 0.4578275, 0.40821073]);
    }

    #[test]
    fn every_resize_mode_is_read() {
        let of = |mode: &str| {
            let json = format!(r#"{{"size": [96, 64], "resize_mode": "{mode}", "fill_color": [1, 2, 3]}}"#);
            from_json(&json).map(|config| (config.resize, config.crop, config.fill))
        };
        let (height, width) = (96, 64);
        assert_eq!(of("squash"), Ok((Some(Resize::Exact { height, width }), None, [1, 2, 3])));
        assert_eq!(of("longest"), Ok((Some(Resize::Within { height, width }), Some((96, 64)), [1, 2, 3])));
        assert!(of("shortest").unwrap_err().contains("96 × 64"));
        assert!(of("fit").unwrap_err().contains("\"fit\""));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, reason) in [
            (r#"{"mode": "L"}"#, "\"mode\" is \"L\""),
            (r#"{"size": 0}"#, "\"size\" is 0"),
            (r#"{"interpolation": "random"}"#, "\"interpolation\" is \"random\""),
            (r#"{"mean": [0.5]}"#, "\"mean\" is [0.5]"),
            (r#"{"std": [1, 0, 1]}"#, "\"std\" is"),
            ("{", "EOF"),
        ] {
            let error = from_json(json).unwrap_err();
            assert!(error.contains(reason), "{json}: {error}");
        }
    }
}
