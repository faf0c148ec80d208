//! Where a model's directory keeps its files.

use std::path::Path;

/// The layouts of model directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Hugging Face's: graphs in `onnx` or next to the configuration.
    HuggingFace,
    /// Immich's: a folder for each encoder, with open_clip's configuration.
    Immich,
}

/// Immich's graphs.
pub(super) const IMMICH_VISION: &str = "visual/model.onnx";
pub(super) const IMMICH_TEXT: &str = "textual/model.onnx";

/// The files that say how images are prepared, the older one first. transformers 5 writes the newer one.
const PREPROCESSOR_FILES: [&str; 2] = ["preprocessor_config.json", "processor_config.json"];

impl Layout {
    /// The layout of the directory `dir`.
    pub(super) fn of(dir: &Path) -> Layout {
        let exists = |name: &str| dir.join(name).symlink_metadata().is_ok();
        match exists(IMMICH_VISION) || exists(IMMICH_TEXT) {
            true => Layout::Immich,
            false => Layout::HuggingFace,
        }
    }

    /// The name of the file that says how images are prepared.
    pub(super) fn preprocessor(self, dir: &Path) -> &'static str {
        let [older, newer] = PREPROCESSOR_FILES;
        match self {
            Layout::Immich => "visual/preprocess_cfg.json",
            Layout::HuggingFace if !dir.join(older).exists() && dir.join(newer).exists() => newer,
            Layout::HuggingFace => older,
        }
    }

    /// The name of the tokenizer's file.
    pub(super) fn tokenizer(self) -> &'static str {
        match self {
            Layout::HuggingFace => "tokenizer.json",
            Layout::Immich => "textual/tokenizer.json",
        }
    }

    /// The names of the tokenizer's configuration and of its special tokens.
    pub(super) fn tokenizer_configs(self) -> [&'static str; 2] {
        match self {
            Layout::HuggingFace => ["tokenizer_config.json", "special_tokens_map.json"],
            Layout::Immich => ["textual/tokenizer_config.json", "textual/special_tokens_map.json"],
        }
    }
}
