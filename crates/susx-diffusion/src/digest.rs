//! The identity of a generator: SHA-256 of the files that its images depend on.

use std::path::Path;

use susx_core::onnx::digest;

use super::config::GeneratorConfig;
use super::error::Result;

const CONFIGURATION: [&str; 10] = [
    "feature_extractor/preprocessor_config.json",
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "vae_decoder/config.json",
];

impl GeneratorConfig {
    /// Size of the generator's graphs and weights on disk, in bytes.
    pub fn bytes(&self) -> Result<u64> {
        Ok(digest::size(&self.dir, &self.graph_paths())?)
    }

    /// SHA-256 of everything that an image depends on: the graphs with their external weights and the configuration
    /// files that exist, in the form of [`onnx::digest`](susx_core::onnx::digest). Reads the whole generator once.
    pub fn sha256(&self) -> Result<[u8; 32]> {
        Ok(digest::sha256(&self.dir, &self.graph_paths(), &CONFIGURATION, &[])?)
    }

    fn graph_paths(&self) -> Vec<&Path> {
        let graphs = &self.graphs;
        let needed = [&graphs.text_encoder, &graphs.unet, &graphs.vae_decoder];
        needed.into_iter().chain(&graphs.safety_checker).map(|path| path.as_path()).collect()
    }
}
