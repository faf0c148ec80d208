//! Tests of `susx_core::clip` from the outside.
//!
//! Some need files that are not part of the repository. They are ignored unless the variable that names these is set,
//! which `make -s env` and `make test` do:
//!
//! * an ONNX Runtime library: `$SUSX_TEST_ONNXRUNTIME`, such as `build/onnxruntime/libonnxruntime.so`;
//! * models: `$SUSX_TEST_MODELS`, such as `build/test-models`, with a directory for each variant of
//!   `tests/models/tiny_clip.py` and `tests/models/tiny_vision.py` by the variant's name;
//! * a folder with `libheif.so.1`, such as `build/libheif`: `$SUSX_TEST_LIBHEIF`, and `$LD_LIBRARY_PATH`;
//! * reference images and tensors: `$SUSX_TEST_SHARED`, such as `../shared` next to the repository.

// A test fails by panicking. clippy.toml allows that in tests, but not in their helpers.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
#![cfg(feature = "inference")]

#[path = "../helpers/mod.rs"]
mod helpers;

mod bad_images;
mod decode;
mod golden;
mod jpeg;
mod model_dir;
mod models;
mod modern;
mod preprocess;
mod runtime;
mod vision;

use std::path::PathBuf;

use helpers::{TempDir, find, onnx_runtime, root};

/// A file or folder of the reference data.
fn shared(name: &str) -> PathBuf {
    let path = find("reference data", "SUSX_TEST_SHARED", "../shared").join(name);
    assert!(path.exists(), "no reference data at {}", path.display());
    path
}

fn models() -> PathBuf {
    find("models of tests/models/tiny_clip.py", "SUSX_TEST_MODELS", "build/test-models")
}

/// A small deterministic generator of test data (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u32) -> u32 {
        (self.next() >> 33) as u32 % limit
    }
}
