//! Tests of `susx_diffusion` from the outside, compared with `diffusers` (`make_golden.py`).
//!
//! Some need files that are not part of the repository. They are ignored unless the variable that names these is set,
//! which `make -s env` and `make test` do:
//!
//! * an ONNX Runtime library: `$SUSX_TEST_ONNXRUNTIME`, such as `build/onnxruntime/libonnxruntime.so`;
//! * generators: `$SUSX_TEST_GENERATORS`, such as `build/test-generators`, with a directory for each variant of
//!   `tests/models/tiny_diffusion.py` by the variant's name.

// A test fails by panicking. clippy.toml allows that in tests, but not in their helpers.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "../../../susx-core/tests/helpers/mod.rs"]
mod helpers;

mod config;
mod generate;
mod images;
mod noise;
mod schedulers;

use std::path::PathBuf;

use serde_json::Value;
use susx_core::onnx::{ExecutionProvider, SessionOptions};
use susx_diffusion::{Generator, GeneratorConfig};

use helpers::{find, onnx_runtime, root};

fn generators() -> PathBuf {
    find("generators of tests/models/tiny_diffusion.py", "SUSX_TEST_GENERATORS", "build/test-generators")
}

fn load(variant: &str) -> Generator {
    let (runtime, dir) = (onnx_runtime(), generators());
    let config = GeneratorConfig::read(&dir, variant).unwrap();
    let options = SessionOptions { provider: ExecutionProvider::Cpu, ..SessionOptions::default() };
    Generator::load(&runtime, config, &options).unwrap()
}

/// A golden file of this folder.
fn golden(name: &str) -> Value {
    let path = root().join("crates/susx-diffusion/tests/diffusion").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}
