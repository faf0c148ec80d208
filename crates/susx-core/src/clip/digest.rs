//! The identity of a model: SHA-256 of the files that its embeddings depend on.

use super::centre_crop::Rounding;
use super::config::ModelConfig;
use super::error::Result;
use crate::onnx::digest::{self, FileTimes};

impl ModelConfig {
    /// Size of the model's graphs and weights on disk, in bytes.
    pub fn bytes(&self) -> Result<u64> {
        Ok(digest::size(&self.dir, &self.files.graphs())?)
    }

    /// SHA-256 of everything that an embedding depends on: the graphs in use with their external weights, the
    /// configuration of the preprocessing and of the tokenizer (in the form of [`onnx::digest`](crate::onnx::digest)),
    /// the context length as 64 bits, little-endian, and the pooling in the words of `susx.json`, if it is stated there
    /// or used in place of `pooler_output`; and the pad token and the crop, if `susx.json` states them. Reads the whole model
    /// once. An encoder that cannot be used does not count.
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
        if let Some(rounding) = self.crop {
            extra.extend(match rounding {
                Rounding::Torchvision => b"crop torchvision".as_slice(),
                Rounding::Transformers => b"crop transformers",
                Rounding::Immich => b"crop immich",
            });
        }
        let configuration = self.configuration();
        Ok(digest::sha256(&self.dir, &self.files.graphs(), &configuration, &extra)?)
    }

    pub(super) fn file_times(&self) -> Result<FileTimes> {
        Ok(FileTimes::of(&self.dir, &self.files.graphs(), &self.configuration())?)
    }

    /// The names of the configuration files, except for those of an encoder that cannot be used: they may be broken.
    fn configuration(&self) -> Vec<&'static str> {
        let layout = self.layout;
        let mut names = vec!["config.json"];
        if self.broken.text.is_none() {
            names.push(layout.tokenizer());
            names.extend(layout.tokenizer_configs());
        }
        if self.broken.vision.is_none() {
            names.push(layout.preprocessor(&self.dir));
        }
        names
    }
}
