use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use susx_core::clip::{ModelCheck, ModelConfig};
use susx_diffusion::GeneratorConfig;

use crate::pieces;

/// Files of a CLIP model and of a generator that are read before ONNX Runtime is loaded.
const FILES: [&str; 13] = [
    "clip/preprocessor_config.json",
    "clip/config.json",
    "clip/susx.json",
    "clip/tokenizer_config.json",
    "clip/model.onnx",
    "sd/model_index.json",
    "sd/scheduler/scheduler_config.json",
    "sd/unet/config.json",
    "sd/unet/model.onnx",
    "immich/config.json",
    "immich/visual/preprocess_cfg.json",
    "immich/visual/model.onnx",
    "immich/textual/tokenizer_config.json",
];

/// The model directory of this process.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let directory = parent.join(format!("susx-fuzz-models-{}", std::process::id()));
    for file in ["clip/tokenizer.json", "sd/tokenizer/tokenizer.json", "immich/textual/tokenizer.json"] {
        write(&directory, file, b"{}");
    }
    for file in ["sd/text_encoder/model.onnx", "sd/vae_decoder/model.onnx"] {
        write(&directory, file, b"");
    }
    directory
});

/// The files of a CLIP model and of a generator, as [`pieces`]. Reading them must result in an error or in a valid
/// configuration.
pub fn model_files(data: &[u8]) {
    let mut pieces = pieces(data);
    for file in FILES {
        match pieces.next() {
            Some(content) if !content.is_empty() => write(&DIRECTORY, file, content),
            _ => {
                let _ = fs::remove_file(DIRECTORY.join(file));
            }
        }
    }
    for name in ["clip", "immich"] {
        clip(name);
    }
    if let Ok(config) = GeneratorConfig::read(&DIRECTORY, "sd") {
        let (width, height) = config.image_size();
        assert!(width > 0 && height > 0);
        let _ = (config.bytes(), config.sha256());
    }
}

fn clip(name: &str) {
    if let Ok(config) = ModelConfig::read(&DIRECTORY, name) {
        let (bytes, sha256) = (config.bytes(), config.sha256());
        // Both read the graph to find its weights, so both succeed or both fail.
        assert_eq!(bytes.is_ok(), sha256.is_ok(), "{bytes:?} {sha256:?}");
        if let Ok(check) = ModelCheck::of(config) {
            assert!(check.vision.is_some() || check.text.is_some());
            let _ = (check.kind(), check.error(), check.note());
        }
    }
}

fn write(directory: &Path, file: &str, content: &[u8]) {
    let path = directory.join(file);
    fs::create_dir_all(path.parent().expect("below the directory")).expect("a folder");
    fs::write(path, content).expect("a file");
}
