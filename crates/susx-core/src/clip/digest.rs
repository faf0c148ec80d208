//! The identity of a model: SHA-256 of the files that its embeddings depend on.

use super::config::{ModelConfig, preprocessor_file};
use super::error::Result;
use crate::onnx::digest::{self, FileTimes};

const CONFIGURATION: [&str; 4] =
    ["config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"];

impl ModelConfig {
    /// Size of the model's graphs and weights on disk, in bytes.
    pub fn bytes(&self) -> Result<u64> {
        Ok(digest::size(&self.dir, &self.files.graphs())?)
    }

    /// SHA-256 of everything that an embedding depends on: the graphs in use with their external weights, the
    /// configuration of the preprocessing and of the tokenizer (in the form of [`onnx::digest`](crate::onnx::digest)),
    /// the context length as 64 bits, little-endian, and the pooling in the words of `susx.json`, if it is stated there
    /// or used in place of `pooler_output`; and the pad token, if `susx.json` states one. Reads the whole model once.
    ///
    /// These are in it because `susx.json` can change them. The rest of `susx.json` changes classifiers, not embeddings.
    pub fn sha256(&self) -> Result<[u8; 32]> {
        let mut extra = (self.context_length as u64).to_le_bytes().to_vec();
        if let Some(pooling) = self.features.chosen() {
            extra.extend(pooling.to_string().bytes());
        }
        if let Some(token) = &self.pad.stated {
            extra.extend(token.bytes());
        }
        Ok(digest::sha256(&self.dir, &self.files.graphs(), &self.configuration(), &extra)?)
    }

    pub(super) fn file_times(&self) -> Result<FileTimes> {
        Ok(FileTimes::of(&self.dir, &self.files.graphs(), &self.configuration())?)
    }

    /// The names of the configuration files. Of those for images, only the one that is read counts.
    fn configuration(&self) -> Vec<&'static str> {
        CONFIGURATION.into_iter().chain([preprocessor_file(&self.dir)]).collect()
    }
}
