//! Loaded models: the embeddings must be those of the numpy implementation in `tests/models/tiny_clip.py`.

use std::path::Path;

use ndarray::{Array2, Array4, Axis, concatenate};
use serde_json::Value;
use susx_core::clip::*;
use susx_core::onnx::{ExecutionProvider, OnnxError, SessionOptions};

use crate::{TempDir, models, onnx_runtime};

/// The minimum cosine similarity to NumPy's float64 embedding.
const EXACT: f32 = 0.99999;

fn load(variant: &str) -> (ClipModel, Value) {
    let (runtime, dir) = (onnx_runtime(), models());
    let config = ModelConfig::read(&dir, variant).unwrap();
    let expected = expected(&config.dir);
    let options = SessionOptions { provider: ExecutionProvider::Cpu, ..SessionOptions::default() };
    (ClipModel::load(&runtime, config, &options).unwrap(), expected)
}

fn expected(dir: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(dir.join("expected.json")).unwrap()).unwrap()
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        match source.is_dir() {
            true => copy_dir(&source, &target),
            false => drop(std::fs::copy(source, target).unwrap()),
        }
    }
}

fn vector(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The image of `test_image` in `tiny_clip.py`.
fn test_image(size: usize) -> Array4<f32> {
    Array4::from_shape_fn((1, 3, size, size), |(_, c, y, x)| {
        (c as f64 + y as f64 / 7.0 + x as f64 / 11.0).sin() as f32
    })
}

fn check(variant: &str) {
    let (model, expected) = load(variant);
    check_loaded(&model, &expected, variant);
}

fn check_loaded(model: &ClipModel, expected: &Value, variant: &str) {
    assert_eq!(model.config().broken, BrokenEncoders::default());
    assert_eq!((model.name(), model.kind(), model.dimensions()), (variant, ModelKind::Clip, 32));
    assert_eq!((model.provider(), model.fallback_reason()), ("CPUExecutionProvider", None));
    assert_eq!(model.sha256(), model.config().sha256().unwrap());

    let image = test_image(96);
    let features = model.image_features(image.view()).unwrap();
    let similarity = cosine(features.as_slice().unwrap(), &vector(&expected["image_embeds"]));
    assert!(similarity > EXACT, "{variant}: image similarity {similarity}");
    // A batch gives the same embeddings as its images one by one.
    let other = image.mapv(|value| 0.5 - value);
    let batch = concatenate(Axis(0), &[image.view(), other.view(), image.view()]).unwrap();
    let batch = model.image_features(batch.view()).unwrap();
    assert!(cosine(batch.row(2).as_slice().unwrap(), features.as_slice().unwrap()) > EXACT);
    assert!(cosine(batch.row(1).as_slice().unwrap(), features.as_slice().unwrap()) < 0.99);

    let texts: Vec<&str> =
        expected["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let tokens = model.tokenizer().unwrap().encode(&texts).unwrap();
    for (row, expected) in expected["input_ids"].as_array().unwrap().iter().enumerate() {
        let expected: Vec<i64> = expected.as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
        let length = tokens.attention_mask.row(row).sum() as usize;
        assert_eq!(
            tokens.input_ids.row(row).as_slice().unwrap()[..length],
            expected,
            "{variant}: {:?}",
            texts[row]
        );
    }
    let features = model.text_features(&tokens).unwrap();
    for (row, expected) in features.rows().into_iter().zip(expected["text_embeds"].as_array().unwrap()) {
        let similarity = cosine(row.as_slice().unwrap(), &vector(expected));
        assert!(similarity > EXACT, "{variant}: text similarity {similarity}");
        let length = row.dot(&row);
        assert!((length - 1.0).abs() < 1e-5, "{variant}: squared length {length}");
    }
    // A single text is padded to another length, which must not matter.
    let alone = model.text_features(&model.tokenizer().unwrap().encode(&texts[1..2]).unwrap()).unwrap();
    assert!(cosine(alone.as_slice().unwrap(), features.row(1).as_slice().unwrap()) > EXACT);

    assert_eq!(model.image_features(Array4::zeros((0, 3, 96, 96)).view()).unwrap().dim(), (0, 32));
    assert_eq!(model.text_features(&model.tokenizer().unwrap().encode(&[]).unwrap()).unwrap().dim(), (0, 32));
    let error = model.image_features(Array4::zeros((1, 3, 96, 95)).view()).unwrap_err().to_string();
    assert!(error.contains("(3, 96, 95)") && error.contains("(3, 96, 96)"), "{error}");
}

#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn split() {
    check("split");
}

#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn fused() {
    check("fused");
}

#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn without_attention_mask() {
    check("no_mask");
}

#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn siglip() {
    check("siglip");
    let (model, _) = load("siglip");
    assert_eq!(model.tokenizer().unwrap().encode(&["a cat"]).unwrap().input_ids.dim(), (1, 64));
    assert_eq!(model.config().defaults.logit_scale, Some(115.0));
}

/// An encoder that ignores its mask, and whose pad token only the vocabulary names.
#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn padding_that_the_encoder_sees() {
    check("own_pad");
    let (model, _) = load("own_pad");
    assert_eq!(model.tokenizer().unwrap().encode(&["a cat"]).unwrap().input_ids.dim(), (1, 77));
}

/// The files name a token that has another use, and padding with that one gives other embeddings.
#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn a_pad_token_that_is_not_certain() {
    let dir = TempDir::new("pad");
    let copy = dir.0.join("sees_padding");
    copy_dir(&models().join("sees_padding"), &copy);
    let options = SessionOptions { provider: ExecutionProvider::Cpu, ..SessionOptions::default() };
    let load = || {
        let config = ModelConfig::read(&dir.0, "sees_padding").unwrap();
        ClipModel::load(&onnx_runtime(), config, &options)
    };
    let broken = || load().unwrap().config().broken.text.clone().unwrap().to_string();
    let error = broken();
    let first = "\"pad_token\": \"\u{100}\" (the token 0";
    for part in ["tokenizer.json", "<|endoftext|>", "susx.json", first] {
        assert!(error.contains(part), "{error}");
    }
    std::fs::write(copy.join("susx.json"), "{\"pad_token\": \"\u{100}\"}").unwrap();
    check_loaded(&load().unwrap(), &expected(&copy), "sees_padding");
    std::fs::write(copy.join("susx.json"), r#"{"pad_token": "<nothing>"}"#).unwrap();
    let error = broken();
    assert!(error.contains("\"<nothing>\" is not in the vocabulary"), "{error}");
}

#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn half_precision() {
    check("fp16");
}

#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn external_weights() {
    check("external");
}

/// Immich's layout: graphs for batches of one, and open_clip's configuration.
#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn layout_of_immich() {
    check("immich");
    let (model, _) = load("immich");
    assert_eq!((model.config().layout, model.config().projection_dim), (Layout::Immich, Some(32)));
    assert_eq!(model.config().image_size(), Some((96, 96)));
    assert_eq!(model.tokenizer().unwrap().encode(&["a cat"]).unwrap().input_ids.dim(), (1, 77));
    // Every file counts for the model's identity.
    let dir = TempDir::new("immich");
    copy_dir(&models().join("immich"), &dir.0.join("m"));
    let sha256 = || ModelConfig::read(&dir.0, "m").unwrap().sha256().unwrap();
    let mut last = sha256();
    for file in [
        "config.json",
        "visual/preprocess_cfg.json",
        "textual/tokenizer.json",
        "textual/tokenizer_config.json",
    ] {
        let mut text = std::fs::read_to_string(dir.0.join("m").join(file)).unwrap();
        text.push('\n');
        dir.write(&format!("m/{file}"), text);
        assert_ne!(sha256(), last, "{file}");
        last = sha256();
    }
    std::fs::remove_file(dir.0.join("m/textual/tokenizer.json")).unwrap();
    let check = ModelCheck::read(&dir.0, "m").unwrap();
    assert_eq!(check.kind(), ModelKind::Vision);
    assert!(check.error().unwrap().contains("textual/tokenizer.json"), "{:?}", check.error());
}

/// A graph for batches of two texts of 77 tokens. Other batches are divided into pieces and padded.
#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn fixed_shapes() {
    check("fixed");
    let (model, _) = load("fixed");
    assert_eq!(model.tokenizer().unwrap().encode(&["a cat"]).unwrap().input_ids.dim(), (1, 77));
}

/// The server runs requests of many clients at once.
#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn models_can_be_shared_between_threads() {
    let (model, _) = load("split");
    let expected = model.image_features(test_image(96).view()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 1..6 {
                    let images = concatenate(Axis(0), &vec![test_image(96).view(); n]).unwrap();
                    let features = model.image_features(images.view()).unwrap();
                    assert!(
                        cosine(features.row(n - 1).as_slice().unwrap(), expected.as_slice().unwrap()) > EXACT
                    );
                    let tokens = model.tokenizer().unwrap().encode(&vec!["a photo"; n]).unwrap();
                    assert_eq!(model.text_features(&tokens).unwrap().dim(), (n, 32));
                }
            });
        }
    });
}

/// A copy of a test model that a test may change.
fn copy(variant: &str, name: &str) -> TempDir {
    let source = models().join(variant);
    let copy = TempDir::new(name);
    for folder in ["", "onnx"] {
        for entry in source.join(folder).read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = path.strip_prefix(&source).unwrap();
                copy.write(&format!("m/{}", name.display()), std::fs::read(&path).unwrap());
            }
        }
    }
    copy
}

fn reload(dir: &TempDir) -> Result<ClipModel> {
    let runtime = onnx_runtime();
    let options = SessionOptions { provider: ExecutionProvider::Cpu, ..SessionOptions::default() };
    ModelConfig::read(&dir.0, "m").and_then(|config| ClipModel::load(&runtime, config, &options))
}

/// Why the model cannot be loaded, or why one of its encoders cannot be used.
fn error(dir: &TempDir) -> String {
    let error = match reload(dir) {
        Ok(model) => model.config().broken.first().cloned(),
        Err(error) => Some(error),
    };
    error.expect("the whole model was loaded").to_string()
}

#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn one_encoder_is_enough() {
    let dir = copy("split", "vision");
    std::fs::remove_file(dir.0.join("m/onnx/text_model.onnx")).unwrap();
    std::fs::remove_file(dir.0.join("m/tokenizer.json")).unwrap();
    let model = reload(&dir);
    let model = model.unwrap();
    assert_eq!(
        (model.kind(), model.kind().to_string(), model.dimensions()),
        (ModelKind::Vision, "vision".into(), 32)
    );
    assert!(model.tokenizer().is_none() && model.preprocessor().is_some());
    let tokens = TokenBatch { input_ids: Array2::zeros((1, 2)), attention_mask: Array2::zeros((1, 2)) };
    assert_eq!(
        model.text_features(&tokens),
        Err(ClipError::NoEncoder { model: "m".into(), encoder: "text" })
    );

    let dir = copy("split", "text");
    std::fs::remove_file(dir.0.join("m/onnx/vision_model.onnx")).unwrap();
    let model = reload(&dir).unwrap();
    assert_eq!(model.kind(), ModelKind::Text);
    assert!(model.preprocessor().is_none());
    let error = model.image_features(Array4::zeros((1, 3, 96, 96)).view());
    assert_eq!(error, Err(ClipError::NoEncoder { model: "m".into(), encoder: "image" }));
}

/// What the checks cannot see makes the load of one encoder fail, and leaves the other as it is.
#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn a_broken_encoder_leaves_the_other() {
    let whole = load("split").0;
    let image = whole.image_features(test_image(96).view()).unwrap();
    // An operation of this name and length is unknown to ONNX Runtime.
    let rename = |graph: Vec<u8>| {
        let (old, new) = (b"LayerNormalization", b"LayerMultiplication");
        assert_eq!(old.len() + 1, new.len());
        let new = &new[..old.len()];
        let places: Vec<usize> =
            (0..graph.len() - old.len()).filter(|&at| graph[at..].starts_with(old)).collect();
        let mut graph = graph;
        for at in places {
            graph[at..at + old.len()].copy_from_slice(new);
        }
        graph
    };
    let dir = copy("split", "half-text");
    let text = dir.0.join("m/onnx/text_model.onnx");
    std::fs::write(&text, rename(std::fs::read(&text).unwrap())).unwrap();
    let check = ModelCheck::read(&dir.0, "m").unwrap();
    assert_eq!((check.kind(), check.error()), (ModelKind::Clip, None), "nothing cheap shows it");
    let model = reload(&dir).unwrap();
    assert_eq!(model.kind(), ModelKind::Vision);
    assert_eq!(model.image_features(test_image(96).view()).unwrap(), image);
    let tokens = TokenBatch { input_ids: Array2::zeros((1, 2)), attention_mask: Array2::zeros((1, 2)) };
    let error = model.text_features(&tokens).unwrap_err();
    assert!(
        matches!(&error, ClipError::Onnx(OnnxError::ModelFile { path, .. }) if path.ends_with("text_model.onnx")),
        "{error}"
    );

    // What the checks see.
    let dir = copy("split", "half-checked");
    let text = dir.0.join("m/onnx/text_model.onnx");
    std::fs::write(&text, &std::fs::read(&text).unwrap()[..1000]).unwrap();
    let check = ModelCheck::read(&dir.0, "m").unwrap();
    assert_eq!(check.kind(), ModelKind::Vision);
    let error = check.error().unwrap();
    assert!(error.starts_with("it embeds no texts: ") && error.contains("text_model.onnx"), "{error}");
    std::fs::remove_file(&text).unwrap();
    std::os::unix::fs::symlink("absent", &text).unwrap();
    let error = ModelCheck::read(&dir.0, "m").unwrap().error().unwrap();
    assert!(error.contains("link to nothing"), "{error}");
    std::fs::write(dir.0.join("m/onnx/vision_model.onnx"), "no graph").unwrap();
    assert!(ModelCheck::read(&dir.0, "m").is_err(), "no encoder is left");
}

/// The files say what the loaded model says.
#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn the_checks_agree_with_the_loaded_model() {
    for (variant, files, precision) in [
        ("split", ["onnx/vision_model.onnx", "onnx/text_model.onnx"], "fp32"),
        ("fused", ["onnx/model.onnx"; 2], "fp32"),
        ("fp16", ["onnx/vision_model_fp16.onnx", "onnx/text_model_fp16.onnx"], "fp16"),
        ("external", ["onnx/vision_model.onnx", "onnx/text_model.onnx"], "fp32"),
        ("siglip", ["onnx/vision_model.onnx", "onnx/text_model.onnx"], "fp32"),
        ("fixed", ["onnx/vision_model.onnx", "onnx/text_model.onnx"], "fp32"),
    ] {
        let check = ModelCheck::read(&models(), variant).unwrap();
        let (model, _) = load(variant);
        assert_eq!(check.kind(), model.kind(), "{variant}");
        assert_eq!(check.dimensions().unwrap(), Some(model.dimensions()), "{variant}");
        assert_eq!((check.error(), check.note()), (None, None), "{variant}");
        for (tower, file) in [check.vision, check.text].into_iter().zip(files) {
            let tower = tower.unwrap();
            assert_eq!(tower.path, model.config().dir.join(file));
            assert_eq!(
                (tower.precision, tower.opset, tower.depends_on_batch),
                (Some(precision), Some(17), false)
            );
        }
    }
}

#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn what_does_not_fit_is_named_with_both_numbers() {
    let dir = copy("split", "sizes");
    let preprocessor = r#"{"image_processor_type": "CLIPImageProcessor", "size": 128, "crop_size": 128}"#;
    dir.write("m/preprocessor_config.json", preprocessor);
    let message = error(&dir);
    assert!(message.contains("128 × 128") && message.contains("96"), "{message}");
    dir.write("m/config.json", r#"{"model_type": "clip", "projection_dim": 32}"#);
    let message = error(&dir);
    assert!(message.contains("96 × 96") && message.contains("128 × 128"), "{message}");
    dir.write(
        "m/preprocessor_config.json",
        r#"{"image_processor_type": "CLIPImageProcessor", "size": 96, "crop_size": 96}"#,
    );
    dir.write("m/config.json", r#"{"model_type": "clip", "projection_dim": 512}"#);
    let message = error(&dir);
    assert!(message.contains("32") && message.contains("512"), "{message}");
    dir.write("m/config.json", "{}");
    dir.write("m/onnx/vision_model.onnx", "this is no graph");
    assert!(error(&dir).contains("vision_model.onnx"));
    std::fs::copy(dir.0.join("m/onnx/text_model.onnx"), dir.0.join("m/onnx/vision_model.onnx")).unwrap();
    let message = error(&dir);
    assert!(message.contains("vision_model.onnx"), "{message}");
}

#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn external_weights_are_part_of_the_model() {
    let dir = copy("external", "external");
    let config = ModelConfig::read(&dir.0, "m").unwrap();
    let (bytes, sha256) = (config.bytes().unwrap(), config.sha256().unwrap());
    let weights = dir.0.join("m/onnx/vision_model.onnx_data");
    let mut content = std::fs::read(&weights).unwrap();
    assert!(bytes > content.len() as u64);
    content[100] ^= 1;
    std::fs::write(&weights, &content).unwrap();
    assert_ne!(sha256, config.sha256().unwrap());

    std::fs::remove_file(&weights).unwrap();
    let message = config.sha256().unwrap_err().to_string();
    assert!(message.contains("vision_model.onnx_data"), "{message}");
    // They are not read from outside the directory, not even through a link.
    let elsewhere = dir.write("elsewhere", content);
    std::os::unix::fs::symlink(elsewhere, &weights).unwrap();
    let message = error(&dir);
    assert!(message.contains("leads out of"), "{message}");
}

/// Replaces the name of the external file by another one of the same length.
fn with_location(graph: &[u8], name: &str) -> Vec<u8> {
    let old = b"vision_model.onnx_data";
    let mut graph = graph.to_vec();
    for at in 0..graph.len() - old.len() {
        if graph[at..].starts_with(old) {
            graph[at..at + old.len()].copy_from_slice(format!("{name:/<22}").as_bytes());
        }
    }
    graph
}

#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn external_weights_stay_in_the_model() {
    let dir = copy("external", "escape");
    let graph = std::fs::read(dir.0.join("m/onnx/vision_model.onnx")).unwrap();
    for name in ["/etc/passwd", "../../weights", "a/../../../b"] {
        dir.write("m/onnx/vision_model.onnx", with_location(&graph, name));
        let message = ModelConfig::read(&dir.0, "m").unwrap().sha256().unwrap_err().to_string();
        assert!(message.contains("not a file name below"), "{message}");
    }
    // A file truncated anywhere gives an error, never a panic.
    for length in (0..graph.len()).step_by(97).skip(1) {
        dir.write("m/onnx/vision_model.onnx", &graph[..length]);
        let _ = ModelConfig::read(&dir.0, "m").unwrap().sha256();
    }
}

#[test]
#[cfg_attr(not(test_models), ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_MODELS: see `make -s env`")]
fn a_missing_gpu_is_reported_or_an_error() {
    let (runtime, dir) = (onnx_runtime(), models());
    let config = ModelConfig::read(&dir, "split").unwrap();
    let options = SessionOptions::default();
    let model = ClipModel::load(&runtime, config.clone(), &options).unwrap();
    if model.provider() != "CPUExecutionProvider" {
        // This machine has a GPU, which is in use.
        return assert_eq!(model.fallback_reason(), None);
    }
    let reason = model.fallback_reason().unwrap();
    assert!(reason.contains("CUDAExecutionProvider"), "{reason}");
    for provider in [
        ExecutionProvider::Auto,
        ExecutionProvider::Cuda,
        ExecutionProvider::TensorRt,
        ExecutionProvider::Cpu,
    ] {
        let options = SessionOptions { provider, require_gpu: true, ..SessionOptions::default() };
        match ClipModel::load(&runtime, config.clone(), &options) {
            Err(ClipError::Onnx(OnnxError::Provider { reason, .. })) => assert!(!reason.is_empty()),
            Err(other) => panic!("{provider}: {other}"),
            Ok(_) => panic!("{provider}: loaded without a GPU"),
        }
    }
}
