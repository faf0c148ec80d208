//! Image encoders without a text encoder: the embeddings must be those that numpy and Pillow make in
//! `tests/models/tiny_vision.py`.

use ndarray::{Array4, Axis, concatenate};
use serde_json::Value;
use susx_core::clip::*;
use susx_core::onnx::{ExecutionProvider, SessionOptions};

use crate::{TempDir, models, onnx_runtime};

fn load(dir: &std::path::Path, name: &str) -> Result<ClipModel> {
    let options = SessionOptions { provider: ExecutionProvider::Cpu, ..SessionOptions::default() };
    ClipModel::load(&onnx_runtime(), ModelConfig::read(dir, name)?, &options)
}

fn expected(variant: &str) -> Value {
    let text = std::fs::read_to_string(models().join(variant).join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The image of `test_image` in `tiny_clip.py`.
fn tensor() -> Array4<f32> {
    Array4::from_shape_fn((1, 3, 96, 96), |(_, c, y, x)| {
        (c as f64 + y as f64 / 7.0 + x as f64 / 11.0).sin() as f32
    })
}

/// The largest difference of an embedding from the expected one.
fn difference(found: &[f32], expected: &Value) -> f64 {
    let expected = expected.as_array().unwrap();
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected);
    differences.map(|(a, b)| (f64::from(*a) - b.as_f64().unwrap()).abs()).fold(0.0, f64::max)
}

/// Checks the embeddings of a loaded model against those of `variant` by `pooling`.
fn check(model: &ClipModel, variant: &str, pooling: &str) {
    assert_eq!((model.kind(), model.dimensions()), (ModelKind::Vision, 64), "{variant}");
    let expected = expected(variant);
    let image = tensor();
    let batch =
        concatenate(Axis(0), &[image.view(), image.mapv(|it| 0.5 - it).view(), image.view()]).unwrap();
    for (images, row) in [(&image, 0), (&batch, 0), (&batch, 2)] {
        let features = model.image_features(images.view()).unwrap();
        let off = difference(features.row(row).as_slice().unwrap(), &expected["tensor"][pooling]);
        assert!(off < 1e-5, "{variant}, {pooling}: {off}");
    }
    let preprocessor = model.preprocessor().unwrap();
    for (name, expected) in expected["pictures"].as_object().unwrap() {
        let bytes = std::fs::read(models().join(variant).join(name)).unwrap();
        let picture = decode_rgb(&bytes, &ImageLimits::default()).unwrap();
        let mut pixels = Array4::zeros((1, 3, 96, 96));
        let out = pixels.as_slice_mut().unwrap();
        preprocessor.pixel_values_into(&picture, &mut PreprocessScratch::default(), out).unwrap();
        let features = model.image_features(pixels.view()).unwrap();
        let off = difference(features.as_slice().unwrap(), &expected[pooling]);
        eprintln!("{variant}, {pooling}, {name}: {off:.6}");
        // Where it resizes for DINOv3, `transformers` rounds no levels.
        let most = if variant == "dinov3" && name != "as_it_is.png" { 2e-3 } else { 1e-5 };
        assert!(off < most, "{variant}, {pooling}, {name}: {off}");
    }
}

#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn features_are_found_in_every_layout() {
    for variant in ["dinov2", "dinov3", "vit", "convnext", "efficientnet"] {
        let pooling = expected(variant)["default"].as_str().unwrap().to_owned();
        check(&load(&models(), variant).unwrap(), variant, &pooling);
    }
}

/// The poolings of a variant give different vectors: otherwise, the comparisons would prove nothing.
#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn poolings_differ() {
    for variant in ["dinov2", "dinov3", "vit", "convnext"] {
        let vectors = expected(variant)["tensor"].as_object().unwrap().clone();
        for (one, a) in &vectors {
            for (other, b) in &vectors {
                let a: Vec<f32> =
                    a.as_array().unwrap().iter().map(|it| it.as_f64().unwrap() as f32).collect();
                let is_cls = |name: &str| name == "cls" || (variant == "dinov3" && name == "pooler_output");
                if one != other && !(is_cls(one) && is_cls(other)) {
                    assert!(difference(&a, b) > 0.01, "{variant}: {one} and {other}");
                }
            }
        }
    }
}

/// A copy of a variant with the given `susx.json`.
fn with(variant: &str, susx: &str) -> TempDir {
    let dir = TempDir::new(&format!("vision-{variant}"));
    for name in ["config.json", "preprocessor_config.json", "onnx/model.onnx"] {
        dir.write(&format!("m/{name}"), std::fs::read(models().join(variant).join(name)).unwrap());
    }
    dir.write("m/susx.json", susx);
    dir
}

#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn a_stated_pooling_comes_before_all() {
    for (variant, pooling) in [
        ("dinov2", "mean"),
        ("dinov2", "patch_mean"),
        ("dinov3", "cls"),
        ("dinov3", "patch_mean"),
        ("vit", "patch_mean"),
        ("convnext", "mean"),
        ("tokens", "cls"),
        ("tokens", "mean"),
    ] {
        let dir = with(variant, &format!(r#"{{"pooling": "{pooling}"}}"#));
        check(&load(&dir.0, "m").unwrap(), variant, pooling);
    }
}

#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn what_is_no_feature_is_refused() {
    let refusal = |dir: &std::path::Path, name| match load(dir, name) {
        Err(error) => error.to_string(),
        Ok(model) => panic!("{} was loaded", model.name()),
    };
    let message = refusal(&models(), "classifier");
    assert!(message.contains("logits") && message.contains("--task feature-extraction"), "{message}");
    let message = refusal(&models(), "tokens");
    assert!(message.contains("\"mystery\"") && message.contains("\"pooling\": \"cls\""), "{message}");
    for (variant, pooling, reason) in [
        ("tokens", "patch_mean", "\"mystery\""),
        ("convnext", "cls", "4 axes"),
        ("classifier", "cls", "last_hidden_state"),
    ] {
        let dir = with(variant, &format!(r#"{{"pooling": "{pooling}"}}"#));
        let message = refusal(&dir.0, "m");
        assert!(message.contains("pooling") && message.contains(reason), "{message}");
    }
    // The number of registers is one of the file's, and the graph has fewer tokens.
    let dir = with("dinov3", r#"{"pooling": "patch_mean"}"#);
    dir.write(
        "m/config.json",
        r#"{"model_type": "dinov3_vit", "num_register_tokens": 18446744073709551615}"#,
    );
    let message = refusal(&dir.0, "m");
    assert!(message.contains("14 tokens"), "{message}");
}
