//! Model directories: valid names, the choice of files, and their content.

use sha2::{Digest, Sha256};
use susx_core::classifier::PartialParams;
use susx_core::clip::*;
use susx_core::onnx::OnnxError;
use susx_core::onnx::model_dir::check_model_name;

use crate::TempDir;

const CLIP: &str = r#"{"image_processor_type": "CLIPImageProcessor"}"#;

/// A model directory with the model `m`, which has these files.
fn model(name: &str, files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new(name);
    for (name, content) in files {
        dir.write(&format!("m/{name}"), content);
    }
    dir
}

fn read(dir: &TempDir) -> ModelConfig {
    ModelConfig::read(&dir.0, "m").unwrap()
}

/// Why the model cannot be read, or why one of its encoders cannot be used.
fn message(dir: &TempDir) -> String {
    let error = match ModelConfig::read(&dir.0, "m") {
        Ok(config) => config.broken.first().cloned().expect("the model is whole"),
        Err(error) => error,
    };
    error.to_string()
}

#[test]
fn names_cannot_lead_anywhere_else() {
    for name in ["clip-vit-base-patch32", "a.b", "café", "x y"] {
        check_model_name(name).unwrap();
    }
    for name in ["", ".", "..", ".hidden", "a/b", "/etc", "a\\b", "a..b", "a\0b"] {
        let error = check_model_name(name).unwrap_err();
        assert!(matches!(&error, OnnxError::ModelName { name: found, .. } if found == name), "{error}");
    }
    let dir = model("names", &[("config.json", "{}")]);
    let outside = TempDir::new("names-outside");
    outside.write("m/config.json", "{}");
    std::os::unix::fs::symlink(outside.0.join("m"), dir.0.join("link")).unwrap();
    dir.write("file", "");
    for (name, reason) in [("link", "outside"), ("file", "not a directory"), ("absent", "no such directory")]
    {
        let error = ModelConfig::read(&dir.0, name).unwrap_err();
        assert!(
            matches!(&error, ClipError::Onnx(OnnxError::ModelName { reason: found, .. }) if found.contains(reason)),
            "{error}"
        );
    }
    assert!(matches!(
        ModelConfig::read(&dir.0.join("absent"), "m"),
        Err(ClipError::Onnx(OnnxError::ModelFile { .. }))
    ));
}

#[test]
fn the_most_exact_file_is_used() {
    let dir = model("files", &[("preprocessor_config.json", CLIP), ("tokenizer.json", "{}")]);
    assert!(message(&dir).contains("there is no onnx/vision_model.onnx"));
    let expect = |new: &str, vision: &str, text: &str| {
        dir.write(&format!("m/{new}"), "");
        let config = read(&dir);
        let file = |name: &str| (!name.is_empty()).then(|| config.dir.join(name));
        assert_eq!(config.files, ModelFiles::Split { vision: file(vision), text: file(text) }, "with {new}");
    };
    expect("vision_model_q4.onnx", "vision_model_q4.onnx", "");
    expect("onnx/text_model_quantized.onnx", "vision_model_q4.onnx", "onnx/text_model_quantized.onnx");
    expect("vision_model_int8.onnx", "vision_model_int8.onnx", "onnx/text_model_quantized.onnx");
    expect("onnx/text_model_fp16.onnx", "vision_model_int8.onnx", "onnx/text_model_fp16.onnx");
    expect("vision_model.onnx", "vision_model.onnx", "onnx/text_model_fp16.onnx");
    expect("onnx/vision_model.onnx", "onnx/vision_model.onnx", "onnx/text_model_fp16.onnx");
    // A fused graph is used only if there is no split one.
    expect("onnx/model.onnx", "onnx/vision_model.onnx", "onnx/text_model_fp16.onnx");
    dir.write("m/susx.json", r#"{"vision_model": "onnx/model.onnx", "text_model": "onnx/model.onnx"}"#);
    assert_eq!(read(&dir).files, ModelFiles::Fused(read(&dir).dir.join("onnx/model.onnx")));
    assert_eq!(read(&dir).kind(), ModelKind::Clip);
}

#[test]
fn missing_and_broken_files_are_named() {
    let dir = model("missing", &[("onnx/vision_model.onnx", "")]);
    assert!(message(&dir).contains("preprocessor_config.json"), "{}", message(&dir));
    dir.write("m/preprocessor_config.json", "{");
    assert!(message(&dir).contains("preprocessor_config.json"), "{}", message(&dir));
    dir.write("m/preprocessor_config.json", CLIP);
    assert_eq!(read(&dir).kind(), ModelKind::Vision);
    assert_eq!(read(&dir).image_size(), Some((224, 224)));
    dir.write("m/onnx/text_model.onnx", "");
    assert!(message(&dir).contains("there is no tokenizer.json"));
    for (file, python) in [("vocab.json", "AutoTokenizer"), ("spiece.model", "T5Converter(t)")] {
        dir.write(&format!("m/{file}"), "");
        let message = message(&dir);
        assert!(message.contains(&format!("only {file}")) && message.contains(python), "{message}");
    }
    dir.write("m/tokenizer.json", "{}");
    assert_eq!(read(&dir).kind(), ModelKind::Clip);
    dir.write("m/config.json", "[");
    assert!(message(&dir).contains("config.json"));
    dir.write("m/config.json", r#"{"vision_config": {"image_size": 336}}"#);
    assert!(message(&dir).contains("224 × 224") && message(&dir).contains("336"), "{}", message(&dir));
}

#[test]
fn susx_json_overrides_and_is_checked() {
    let dir = model(
        "susx",
        &[("onnx/vision_model.onnx", ""), ("other.onnx", ""), ("preprocessor_config.json", CLIP)],
    );
    dir.write(
        "m/susx.json",
        r#"{"logit_scale": 20, "alpha": 20, "beta": 5.5, "gamma": 0, "temperature": 0.5, "lambda": 0, "ridge": 2,
        "vision_model": "other.onnx", "context_length": 32}"#,
    );
    let config = read(&dir);
    let defaults = PartialParams {
        logit_scale: Some(20.0),
        alpha: Some(20.0),
        beta: Some(5.5),
        gamma: Some(0.0),
        temperature: Some(0.5),
        lambda: Some(0.0),
        ridge: Some(2.0),
        ..PartialParams::default()
    };
    assert_eq!((config.defaults, config.context_length), (defaults, 32));
    assert_eq!(config.files, ModelFiles::Split { vision: Some(config.dir.join("other.onnx")), text: None });
    for (json, reason) in [
        (r#"{"vision_model": "../m/other.onnx"}"#, "not a file name below"),
        (r#"{"vision_model": "/etc/passwd"}"#, "not a file name below"),
        (r#"{"vision_model": ""}"#, "not a file name below"),
        (r#"{"vision_model": "absent.onnx"}"#, "there is no file"),
        (r#"{"alpha": -1}"#, "alpha"),
        (r#"{"temperature": 0}"#, "temperature"),
        (r#"{"ridge": 0}"#, "ridge"),
        (r#"{"lambda": -0.1}"#, "lambda"),
        (r#"{"logit_scale": 1e999}"#, "susx.json"),
        (r#"{"context_length": 0}"#, "context_length"),
        (r#"{"pooling": "max"}"#, "patch_mean"),
        (r#"{"crop": "pillow"}"#, "torchvision"),
        (r#"{"alhpa": 1}"#, "alhpa"),
        (r#"{"alpha": "x"}"#, "susx.json"),
    ] {
        dir.write("m/susx.json", json);
        assert!(message(&dir).contains(reason), "{json}: {}", message(&dir));
    }
}

/// transformers 5 writes the fields of `preprocessor_config.json` into another file, one level deeper.
#[test]
fn a_processor_config_is_read_where_the_older_file_is_missing() {
    let nested = r#"{"processor_class": "CLIPProcessor", "image_processor": {"image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 96}, "crop_size": {"height": 96, "width": 96}, "resample": 3}}"#;
    let files = [("onnx/vision_model.onnx", ""), ("processor_config.json", nested)];
    let dir = model("processor", &files);
    assert_eq!(read(&dir).image_size(), Some((96, 96)));
    let alone = read(&dir).sha256().unwrap();
    dir.write("m/processor_config.json", nested.replace("\"resample\": 3", "\"resample\": 2"));
    assert_ne!(read(&dir).sha256().unwrap(), alone);
    // The older file comes first.
    dir.write("m/preprocessor_config.json", CLIP);
    assert_eq!(read(&dir).image_size(), Some((224, 224)));
    let older = read(&dir).sha256().unwrap();
    dir.write("m/processor_config.json", "no JSON");
    assert_eq!(read(&dir).sha256().unwrap(), older);
}

#[test]
fn numbers_that_are_not_finite_count_as_left_out() {
    let dir = model("nan", &[("onnx/vision_model.onnx", ""), ("preprocessor_config.json", CLIP)]);
    dir.write("m/config.json", "\u{feff}{\"model_type\": \"clip\", \"logit_scale_init_value\": NaN}");
    assert_eq!(read(&dir).defaults.logit_scale, Some(100.0));
    dir.write("m/preprocessor_config.json", CLIP.replace('}', ", \"rescale_factor\": NaN}"));
    assert_eq!(read(&dir).image_size(), Some((224, 224)));
}

#[test]
fn the_logit_scale_is_that_of_the_trained_model() {
    let dir = model("scale", &[("onnx/vision_model.onnx", ""), ("preprocessor_config.json", CLIP)]);
    for (config, expected) in [
        (r#"{"model_type": "clip", "logit_scale_init_value": 2.6592}"#, Some(100.0)),
        (r#"{"model_type": "clip"}"#, Some(100.0)),
        (r#"{"model_type": "siglip"}"#, Some(115.0)),
        (r#"{"logit_scale_init_value": 2.995732273553991}"#, Some(20.0)),
        ("{}", None),
    ] {
        dir.write("m/config.json", config);
        let found = read(&dir).defaults.logit_scale;
        assert_eq!(found.map(|scale| (scale * 1000.0).round() / 1000.0), expected, "{config}");
    }
}

#[test]
fn the_context_is_the_shortest_that_is_stated() {
    let dir = model("context", &[("onnx/vision_model.onnx", ""), ("preprocessor_config.json", CLIP)]);
    assert_eq!(read(&dir).context_length, 77);
    for (config, tokenizer, expected) in [
        (r#"{"model_type": "siglip"}"#, r#"{"model_max_length": 1000000000000000019884624838656}"#, 64),
        (r#"{"text_config": {"max_position_embeddings": 77}}"#, r#"{"model_max_length": 77}"#, 77),
        (r#"{"max_position_embeddings": 512}"#, r#"{"model_max_length": 128}"#, 128),
    ] {
        dir.write("m/config.json", config);
        dir.write("m/tokenizer_config.json", tokenizer);
        assert_eq!(read(&dir).context_length, expected, "{config}");
    }
}

#[test]
fn the_digest_covers_what_embeddings_depend_on() {
    let dir = model("digest", &[("onnx/vision_model.onnx", ""), ("preprocessor_config.json", CLIP)]);
    let digest = || read(&dir).sha256().unwrap();
    let mut last = digest();
    assert_eq!(digest(), last);
    for (name, content) in [
        ("config.json", "{}"),
        ("preprocessor_config.json", r#"{"size": 224}"#),
        // An ONNX file with nothing but a producer's name.
        ("onnx/vision_model.onnx", "\x12\x01a"),
        ("susx.json", r#"{"context_length": 10}"#),
        ("susx.json", r#"{"context_length": 10, "pooling": "cls"}"#),
        ("susx.json", r#"{"context_length": 10, "pooling": "mean"}"#),
        ("susx.json", r#"{"context_length": 10, "crop": "transformers"}"#),
        ("susx.json", r#"{"context_length": 10, "crop": "torchvision"}"#),
        ("susx.json", r#"{"context_length": 10}"#),
    ] {
        dir.write(&format!("m/{name}"), content);
        assert_ne!(digest(), last, "{name}");
        last = digest();
    }
    for (name, content) in [
        ("README.md", "text"),
        ("onnx/model.onnx", ""),
        ("susx.json", r#"{"context_length": 10, "alpha": 2}"#),
    ] {
        dir.write(&format!("m/{name}"), content);
        assert_eq!(digest(), last, "{name}");
    }
    assert_eq!(read(&dir).bytes().unwrap(), 3);
}

/// As version 0.2.0 computed it, which classifiers and columns have stored: without a pooling, nothing is added.
#[test]
fn digests_of_existing_models_stay() {
    let dir = model(
        "digest-stays",
        &[("config.json", "{}"), ("onnx/model.onnx", ""), ("preprocessor_config.json", CLIP)],
    );
    let mut expected = Vec::new();
    for (name, content) in
        [("config.json", "{}"), ("onnx/model.onnx", ""), ("preprocessor_config.json", CLIP)]
    {
        for part in [name, content] {
            expected.extend((part.len() as u64).to_le_bytes());
            expected.extend(part.bytes());
        }
    }
    expected.extend(77_u64.to_le_bytes());
    let sha256 = |bytes: &[u8]| <[u8; 32]>::from(Sha256::digest(bytes));
    assert_eq!(read(&dir).sha256().unwrap(), sha256(&expected));
    dir.write("m/susx.json", r#"{"pooling": "mean"}"#);
    assert_eq!(read(&dir).sha256().unwrap(), sha256(&[expected.as_slice(), b"mean"].concat()));
}

/// The class token takes the place of a pooler that is often random numbers, so embeddings are others than before.
#[test]
fn the_digest_tells_that_a_pooler_is_not_used() {
    let dir = model("digest-vit", &[("onnx/model.onnx", ""), ("preprocessor_config.json", CLIP)]);
    let digest = |model_type: &str, susx: &str| {
        dir.write("m/config.json", format!(r#"{{"model_type": "{model_type}"}}"#));
        dir.write("m/susx.json", susx);
        read(&dir).sha256().unwrap()
    };
    let cls = r#"{"pooling": "cls"}"#;
    assert_eq!(digest("vit", "{}"), digest("vit", cls));
    assert_ne!(digest("dinov2", "{}"), digest("dinov2", cls));
}

/// A transformer interpolates its positions: image_size of the file's top is not the images' size.
#[test]
fn an_image_encoder_takes_other_sizes_than_it_was_trained_with() {
    let dir = model(
        "interpolated",
        &[
            ("onnx/model.onnx", ""),
            ("config.json", r#"{"model_type": "dinov2", "image_size": 518}"#),
            ("preprocessor_config.json", r#"{"image_processor_type": "BitImageProcessor"}"#),
        ],
    );
    assert_eq!((read(&dir).image_size(), read(&dir).kind()), (Some((224, 224)), ModelKind::Vision));
}

#[test]
fn broken_models_are_listed_with_their_error() {
    let dir = model("list", &[("onnx/vision_model.onnx", ""), ("preprocessor_config.json", CLIP)]);
    dir.write("empty/README.md", "");
    dir.write(".cache/config.json", "");
    dir.write("file", "");
    let models = list_models(&dir.0).unwrap();
    let names: Vec<(&str, bool)> =
        models.iter().map(|(name, config)| (name.as_str(), config.is_ok())).collect();
    assert_eq!(names, [("empty", false), ("m", true)]);
    assert!(list_models(&dir.0.join("absent")).is_err());
}
