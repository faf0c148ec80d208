//! The identity of a generator: SHA-256 of the files that its pictures depend on.
//!
//! The digest is put together as a CLIP's (`clip/digest.rs` says how), of the graphs with their external
//! weights and the files that [`CONFIGURATION`] lists, as far as they are there.

use std::path::Path;

use sha2::Digest;

use super::config::GeneratorConfig;
use super::error::Result;
use crate::clip::digest;

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

/// Size of the graphs and their weights, in bytes.
pub(super) fn bytes(config: &GeneratorConfig) -> Result<u64> {
    Ok(digest::size(&config.dir, &graphs(config))?)
}

/// The digest that the module's documentation describes.
pub(super) fn sha256(config: &GeneratorConfig) -> Result<[u8; 32]> {
    Ok(digest::hash(&config.dir, &graphs(config), &CONFIGURATION)?.finalize().into())
}

fn graphs(config: &GeneratorConfig) -> Vec<&Path> {
    let graphs = &config.graphs;
    let needed = [&graphs.text_encoder, &graphs.unet, &graphs.vae_decoder];
    needed.into_iter().chain(&graphs.safety_checker).map(|path| path.as_path()).collect()
}
