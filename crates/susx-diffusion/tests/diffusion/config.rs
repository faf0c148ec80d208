//! Valid and invalid directories of generators: errors name what is wrong, with what was expected and found.

use std::fs;
use std::path::Path;

use susx_core::clip::{ModelConfig, list_models};
use susx_core::onnx::model_dir::is_generator;
use susx_core::onnx::{ExecutionProvider, OnnxError, SessionOptions};
use susx_diffusion::scheduler::SchedulerKind;
use susx_diffusion::{GenerateError, Generator, GeneratorConfig, list_generators};

use crate::generators;
use crate::helpers::{TempDir, onnx_runtime};

/// A copy of a test generator, as `m` in a folder of its own.
fn copy(variant: &str, name: &str) -> TempDir {
    let from = generators().join(variant);
    let dir = TempDir::new(&format!("diffusion-{name}"));
    copy_folder(&from, &dir.0.join("m"));
    dir
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_folder(&path, &target),
            false => drop(fs::copy(&path, &target).unwrap()),
        }
    }
}

fn message(dir: &TempDir) -> String {
    GeneratorConfig::read(&dir.0, "m").unwrap_err().to_string()
}

#[test]
#[cfg_attr(
    not(test_generators),
    ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_GENERATORS: see `make -s env`"
)]
fn a_layout_is_read_without_loading() {
    let dir = generators();
    let read = |variant| GeneratorConfig::read(&dir, variant).unwrap();
    let kinds = ["pndm", "velocity", "half", "fixed"].map(|variant| read(variant).scheduler());
    assert_eq!(
        kinds,
        [SchedulerKind::Pndm, SchedulerKind::Ddim, SchedulerKind::Euler, SchedulerKind::DpmSolver]
    );
    assert_eq!(kinds[0].to_string(), "PNDMScheduler");
    let config = read("pndm");
    assert_eq!((config.image_size(), config.vae_scale_factor()), ((64, 64), 8));
    assert!(!config.has_safety_checker() && read("checked").has_safety_checker());
    // External weights count towards the size.
    let size = |name: &str| dir.join("velocity").join(name).metadata().unwrap().len();
    let files =
        ["text_encoder/model.onnx", "unet/model.onnx", "unet/model.onnx_data", "vae_decoder/model.onnx"];
    assert_eq!(read("velocity").bytes().unwrap(), files.iter().map(|name| size(name)).sum::<u64>());
}

#[test]
#[cfg_attr(
    not(test_generators),
    ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_GENERATORS: see `make -s env`"
)]
fn generators_and_clips_are_listed_apart() {
    let dir = copy("pndm", "list");
    dir.write("broken/model_index.json", "{");
    dir.write("clip/README.md", "");
    let generators = list_generators(&dir.0).unwrap();
    let found: Vec<(&str, bool)> =
        generators.iter().map(|(name, config)| (name.as_str(), config.is_ok())).collect();
    assert_eq!(found, [("broken", false), ("m", true)]);
    let clips: Vec<String> = list_models(&dir.0).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(clips, ["clip"]);
    assert!(is_generator(&dir.0, "broken") && !is_generator(&dir.0, "clip"));
    assert!(!is_generator(&dir.0, "../m") && !is_generator(&dir.0, "m/.") && !is_generator(&dir.0, ""));
    let error = ModelConfig::read(&dir.0, "m").unwrap_err().to_string();
    assert!(error.contains("it is an image generator, not a CLIP"), "{error}");
    assert!(list_generators(&dir.0.join("absent")).is_err());
}

#[test]
#[cfg_attr(
    not(test_generators),
    ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_GENERATORS: see `make -s env`"
)]
fn no_name_leads_out_of_the_directory() {
    let dir = copy("pndm", "names");
    for name in ["", "..", "../m", "m/", ".m", "m/../m", "a\\b", "absent"] {
        match GeneratorConfig::read(&dir.0, name) {
            Err(GenerateError::Onnx(OnnxError::ModelName { .. })) => {}
            other => panic!("{name:?}: {other:?}"),
        }
    }
}

#[test]
#[cfg_attr(
    not(test_generators),
    ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_GENERATORS: see `make -s env`"
)]
fn what_is_missing_is_named() {
    for name in [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/model.onnx",
        "unet/model.onnx",
        "vae_decoder/model.onnx",
        "safety_checker/model.onnx",
        "feature_extractor/preprocessor_config.json",
    ] {
        let dir = copy("checked", "missing");
        fs::remove_file(dir.0.join("m").join(name)).unwrap();
        assert!(message(&dir).ends_with(&format!("m: there is no {name}")), "{name}: {}", message(&dir));
    }
    let dir = copy("velocity", "missing-vocabulary");
    fs::remove_file(dir.0.join("m/tokenizer/merges.txt")).unwrap();
    assert!(
        message(&dir).contains("neither tokenizer/tokenizer.json nor tokenizer/vocab.json"),
        "{}",
        message(&dir)
    );
    // Without its folder there is no safety checker, which is no error.
    let dir = copy("checked", "unchecked");
    fs::remove_dir_all(dir.0.join("m/safety_checker")).unwrap();
    assert!(!GeneratorConfig::read(&dir.0, "m").unwrap().has_safety_checker());
    // Files whose fields all have defaults may be missing.
    for name in ["unet/config.json", "vae_decoder/config.json", "tokenizer/tokenizer_config.json"] {
        fs::remove_file(dir.0.join("m").join(name)).unwrap();
    }
    assert_eq!(GeneratorConfig::read(&dir.0, "m").unwrap().image_size(), (512, 512));
}

#[test]
#[cfg_attr(
    not(test_generators),
    ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_GENERATORS: see `make -s env`"
)]
fn what_is_wrong_is_told_with_both_values() {
    for (name, content, reason) in [
        (
            "model_index.json",
            r#"{"_class_name": "StableDiffusionXLPipeline"}"#,
            r#""StableDiffusionXLPipeline": expected StableDiffusionPipeline"#,
        ),
        ("model_index.json", "{}", r#""_class_name" is missing"#),
        ("model_index.json", "[", "EOF while parsing"),
        (
            "scheduler/scheduler_config.json",
            r#"{"_class_name": "UniPCMultistepScheduler"}"#,
            "\"UniPCMultistepScheduler\": expected PNDMScheduler",
        ),
        ("scheduler/scheduler_config.json", "1", "invalid type"),
        ("unet/config.json", r#"{"sample_size": 0}"#, r#""sample_size" is 0: expected 1 to 512"#),
        ("unet/config.json", r#"{"sample_size": [64]}"#, r#""sample_size" is [64]"#),
        (
            "unet/config.json",
            r#"{"in_channels": 9}"#,
            r#""in_channels" is 9, but the VAE's latents have 4 channels"#,
        ),
        (
            "vae_decoder/config.json",
            r#"{"scaling_factor": -1}"#,
            r#""scaling_factor" is -1: expected a positive number"#,
        ),
        (
            "vae_decoder/config.json",
            r#"{"block_out_channels": 3}"#,
            r#""block_out_channels" is 3: expected 1 to 8 numbers"#,
        ),
        (
            "vae_decoder/config.json",
            r#"{"latent_channels": 0}"#,
            r#""latent_channels" is 0: expected 1 to 64"#,
        ),
        ("feature_extractor/preprocessor_config.json", r#"{"size": 0}"#, r#""size" is 0"#),
    ] {
        let dir = copy("checked", "wrong");
        dir.write(&format!("m/{name}"), content);
        let message = message(&dir);
        assert!(message.contains(name) && message.contains(reason), "{name} {content}: {message}");
    }
}

/// Problems inside the graphs are found when they are loaded.
#[test]
#[cfg_attr(
    not(test_generators),
    ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_GENERATORS: see `make -s env`"
)]
fn graphs_that_do_not_fit_are_refused() {
    let runtime = onnx_runtime();
    let load = |dir: &TempDir| {
        let config = GeneratorConfig::read(&dir.0, "m").unwrap();
        let options = SessionOptions { provider: ExecutionProvider::Cpu, ..SessionOptions::default() };
        match Generator::load(&runtime, config, &options) {
            Ok(_) => panic!("it was loaded"),
            Err(error) => error.to_string(),
        }
    };
    for (from, to, reasons) in [
        ("text_encoder", "unet", ["unet/model.onnx", r#"the graph has an input "input_ids""#]),
        (
            "vae_decoder",
            "text_encoder",
            ["text_encoder/model.onnx", r#"the graph has an input "latent_sample""#],
        ),
        ("unet", "vae_decoder", ["vae_decoder/model.onnx", r#"the graph has an input "sample""#]),
        ("unet", "safety_checker", ["safety_checker/model.onnx", r#"the graph has an input "sample""#]),
    ] {
        let dir = copy("checked", "swapped");
        let file = |folder: &str| dir.0.join("m").join(folder).join("model.onnx");
        fs::copy(file(from), file(to)).unwrap();
        let message = load(&dir);
        assert!(reasons.iter().all(|reason| message.contains(reason)), "{from} as {to}: {message}");
    }
    let written = |name: &str, content: &str| {
        let dir = copy("checked", "unfit");
        dir.write(&format!("m/{name}"), content);
        load(&dir)
    };
    for (name, content, reasons) in [
        ("vae_decoder/model.onnx", "this is no graph", ["vae_decoder/model.onnx", "not an ONNX file"]),
        (
            "vae_decoder/config.json",
            r#"{"block_out_channels": [1, 2, 3]}"#,
            ["8 × 8 latents became 64 × 64 pixels", "they are 32 × 32"],
        ),
        (
            "tokenizer/special_tokens_map.json",
            r#"{"pad_token": "<nothing>"}"#,
            ["tokenizer/tokenizer.json", r#"the pad token "<nothing>" is not in the vocabulary"#],
        ),
        ("tokenizer/tokenizer.json", "{}", ["tokenizer/tokenizer.json", "not a tokenizer"]),
        (
            "feature_extractor/preprocessor_config.json",
            r#"{"size": 48, "crop_size": 48}"#,
            ["safety_checker/model.onnx", "makes 48 × 48"],
        ),
    ] {
        let message = written(name, content);
        assert!(reasons.iter().all(|reason| message.contains(reason)), "{name} {content}: {message}");
    }
}

#[test]
#[cfg_attr(
    not(test_generators),
    ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_GENERATORS: see `make -s env`"
)]
fn weights_must_not_lie_outside() {
    let (runtime, dir) = (onnx_runtime(), copy("velocity", "outside"));
    let data = dir.0.join("m/unet/model.onnx_data");
    fs::rename(&data, dir.0.join("secret")).unwrap();
    std::os::unix::fs::symlink(dir.0.join("secret"), &data).unwrap();
    let config = GeneratorConfig::read(&dir.0, "m").unwrap();
    let error = config.bytes().unwrap_err().to_string();
    assert!(
        error.contains("unet/model.onnx") && error.contains("leads out of the model's directory"),
        "{error}"
    );
    let loaded = Generator::load(&runtime, config, &SessionOptions::default());
    assert_eq!(loaded.map(drop).unwrap_err().to_string(), error);
}

#[test]
#[cfg_attr(
    not(test_generators),
    ignore = "needs SUSX_TEST_ONNXRUNTIME and SUSX_TEST_GENERATORS: see `make -s env`"
)]
fn the_digest_covers_what_images_depend_on() {
    let dir = copy("checked", "digest");
    let digest = || GeneratorConfig::read(&dir.0, "m").unwrap().sha256().unwrap();
    let mut last = digest();
    assert_eq!(digest(), last);
    for name in [
        "feature_extractor/preprocessor_config.json",
        "model_index.json",
        "scheduler/scheduler_config.json",
        "tokenizer/special_tokens_map.json",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "unet/config.json",
        "vae_decoder/config.json",
    ] {
        let path = dir.0.join("m").join(name);
        fs::write(&path, fs::read_to_string(&path).unwrap() + "\n").unwrap();
        assert_ne!(digest(), last, "{name}");
        last = digest();
    }
    for part in ["text_encoder", "unet", "vae_decoder", "safety_checker"] {
        let path = dir.0.join("m").join(part).join("model.onnx");
        // An ONNX file with an additional field: a producer's name.
        fs::write(&path, [fs::read(&path).unwrap(), b"\x12\x01a".to_vec()].concat()).unwrap();
        assert_ne!(digest(), last, "{part}");
        last = digest();
    }
    dir.write("m/README.md", "text");
    assert_eq!(digest(), last);
}
