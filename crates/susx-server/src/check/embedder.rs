//! The check of a model that embeds images, texts or both.

use ndarray::{Array2, Array4, ArrayView1, Axis};
use serde_json::Value;
use susx_core::clip::{
    ClipError, ClipModel, ModelCheck, ModelConfig, ModelFiles, PreprocessScratch, Preprocessor,
    PreprocessorConfig, RgbImage, Tower,
};

use super::Model;
use super::picture::{lopsided, mirrored, square};
use super::report::Report;

/// The least cosine of two vectors that must be the same. Half precision stays above it.
const SAME: f32 = 0.9999;

/// Of different lengths, because padding is where batches go wrong.
const TEXTS: [&str; 4] = [
    "a photo of a dog",
    "dog",
    "a blurry black and white photograph of two children who play chess in front of an old wooden house, late in autumn",
    "a photo of a car",
];

pub fn check(model: &Model, report: &mut Report) -> Result<(), String> {
    let sentence = |error: ClipError| error.to_string();
    let config = ModelConfig::read(model.model_dir, model.name).map_err(sentence)?;
    report.fact("kind", config.kind().to_string());
    report.fact("model_type", config.model_type.clone());
    let checked = ModelCheck::of(config).map_err(sentence)?;
    files(&checked, report);
    report.fact("bytes", checked.config.bytes().map_err(sentence)?);
    report.fact("note", checked.note());
    let loaded = ClipModel::load(&model.runtime()?, checked.config, &model.options).map_err(sentence)?;
    facts(&loaded, report);
    let broken = &loaded.config().broken;
    // The server would use the other half, but a check should cover both.
    if let Some(error) = broken.first() {
        return Err(error.to_string());
    }
    let texts = loaded.tokenizer().is_some().then(|| text_tests(&loaded, report)).transpose();
    texts.map_err(sentence)?;
    let images =
        loaded.preprocessor().map(|preprocessor| image_tests(&loaded, preprocessor, report)).transpose();
    images.map_err(sentence)?;
    Ok(())
}

/// The ONNX files, relative to the model's directory, with their precision and operator set.
fn files(checked: &ModelCheck, report: &mut Report) {
    let config = &checked.config;
    let relative =
        |path: &std::path::Path| path.strip_prefix(&config.dir).unwrap_or(path).display().to_string();
    let precision = |tower: &Option<Tower>| tower.as_ref().and_then(|tower| tower.precision);
    let opset = |tower: &Option<Tower>| tower.as_ref().and_then(|tower| tower.opset);
    let (vision, text) = (&checked.vision, &checked.text);
    match &config.files {
        ModelFiles::Split { vision: vision_file, text: text_file } => {
            report.fact("image_encoder", vision_file.as_deref().map(relative));
            report.fact("image_precision", precision(vision));
            report.fact("image_opset", opset(vision));
            report.fact("text_encoder", text_file.as_deref().map(relative));
            report.fact("text_precision", precision(text));
            report.fact("text_opset", opset(text));
        }
        ModelFiles::Fused(path) => {
            report.fact("encoder", relative(path));
            let either = vision.as_ref().or(text.as_ref()).cloned();
            report.fact("precision", precision(&either));
            report.fact("opset", opset(&either));
        }
    }
}

fn facts(model: &ClipModel, report: &mut Report) {
    let config = model.config();
    // The graphs know better than the configuration.
    report.fact("kind", model.kind().to_string());
    report.fact("dimensions", model.dimensions());
    report.fact("provider", model.provider());
    report.fact("other_providers", model.fallback_reason());
    report.fact("operations_elsewhere", model.partial_fallback().map(|partial| partial.operations.clone()));
    if let Some(tokenizer) = model.tokenizer() {
        report.fact("context_length", tokenizer.context_length());
        report.fact("pad_token", tokenizer.pad_id());
    }
    if let Some(preprocessor) = model.preprocessor() {
        let (_, height, width) = preprocessor.shape();
        report.fact("image_size", format!("{height} × {width} pixels"));
        report.fact("preprocessing", preprocessing(config));
    }
    let defaults = config.defaults;
    report.fact("logit_scale", defaults.logit_scale);
    report.fact("logit_bias", config.logit_bias);
    report.fact("sha256", hex::encode(model.sha256()));
}

/// The steps of the preprocessing; null if its file cannot be read again.
fn preprocessing(config: &ModelConfig) -> Value {
    let files = ["preprocessor_config.json", "processor_config.json"];
    let text = files.iter().find_map(|file| std::fs::read_to_string(config.dir.join(file)).ok());
    let Some(steps) = text.and_then(|text| PreprocessorConfig::from_json(&text).ok()) else {
        return Value::Null;
    };
    let PreprocessorConfig { resize, resample, crop, rescale_factor, mean, std, .. } = steps;
    let mut lines = Vec::new();
    if let Some(resize) = resize {
        lines.push(format!("resize {resize:?}, {resample:?}"));
    }
    if let Some((height, width)) = crop {
        lines.push(format!("centre crop {height} × {width}"));
    }
    lines.push(format!("× {rescale_factor}, − {mean:?}, ÷ {std:?}"));
    lines.into()
}

fn text_tests(model: &ClipModel, report: &mut Report) -> Result<(), ClipError> {
    let together = texts(model, &TEXTS)?;
    let mut least: f32 = 1.0;
    for (text, row) in TEXTS.iter().zip(together.rows()) {
        let alone = texts(model, &[*text])?;
        least = least.min(cosine(alone.row(0), row));
    }
    report.test("a text alone and in a batch", least >= SAME, format!("the least cosine is {least:.6}"));
    let found = cosine(together.row(0), together.row(3));
    report.test(
        "two texts differ",
        found < SAME,
        format!("the cosine of \"{}\" and \"{}\" is {found:.4}", TEXTS[0], TEXTS[3]),
    );
    Ok(())
}

fn image_tests(model: &ClipModel, preprocessor: &Preprocessor, report: &mut Report) -> Result<(), ClipError> {
    let picture = lopsided();
    let squares = [[220, 20, 20], [20, 40, 220]].map(square);
    let batch = [picture.clone(), mirrored(&picture), squares[0].clone(), squares[1].clone()];
    let together = images(model, preprocessor, &batch)?;
    let mut least: f32 = 1.0;
    for (image, row) in batch.iter().zip(together.rows()) {
        let alone = images(model, preprocessor, std::slice::from_ref(image))?;
        least = least.min(cosine(alone.row(0), row));
    }
    report.test("an image alone and in a batch", least >= SAME, format!("the least cosine is {least:.6}"));
    let found = cosine(together.row(0), together.row(1));
    // More exact than the other tests: a mirror image is like its picture.
    report.test("a mirror image differs", found < 0.999_999, format!("the cosine is {found:.6}"));
    if model.tokenizer().is_some() {
        let names = texts(model, &["a red square", "a blue square"])?;
        let found = |image: usize, text: usize| cosine(together.row(image), names.row(text));
        let detail = format!(
            "the red one has {:.4} with \"a red square\" and {:.4} with \"a blue square\", the blue one {:.4} and {:.4}",
            found(2, 0),
            found(2, 1),
            found(3, 0),
            found(3, 1)
        );
        report.information("two squares and their names", detail);
    }
    Ok(())
}

fn texts(model: &ClipModel, texts: &[&str]) -> Result<Array2<f32>, ClipError> {
    let Some(tokenizer) = model.tokenizer() else {
        return Ok(Array2::zeros((texts.len(), model.dimensions())));
    };
    model.text_features(&tokenizer.encode(texts)?)
}

fn images(
    model: &ClipModel,
    preprocessor: &Preprocessor,
    images: &[RgbImage],
) -> Result<Array2<f32>, ClipError> {
    let (channels, height, width) = preprocessor.shape();
    let mut pixel_values = Array4::zeros((images.len(), channels, height, width));
    let mut scratch = PreprocessScratch::default();
    for (image, mut values) in images.iter().zip(pixel_values.axis_iter_mut(Axis(0))) {
        let values = values.as_slice_mut().unwrap_or_default();
        preprocessor.pixel_values_into(image, &mut scratch, values)?;
    }
    model.image_features(pixel_values.view())
}

/// Of two vectors of length 1.
fn cosine(a: ArrayView1<f32>, b: ArrayView1<f32>) -> f32 {
    a.dot(&b)
}
