//! Tests of `susx_core::clip` from the outside.
//!
//! Some need files that are not part of the repository; where these are absent a test says so and passes:
//!
//! * an ONNX Runtime library: `$SUSX_TEST_ONNXRUNTIME`, else `build/onnxruntime/libonnxruntime.so`;
//! * models: `$SUSX_TEST_MODELS`, else `build/test-models`, with a directory for each variant of
//!   `tests/models/tiny_clip.py` by the variant's name;
//! * reference images and tensors: `../shared` beside the repository.

#![cfg(feature = "inference")]

mod bad_images;
mod decode;
mod model_dir;
mod models;
mod preprocess;
mod runtime;

use std::path::{Path, PathBuf};

use susx_core::clip::OnnxRuntime;

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The first of these that exists; says on standard error if none does.
fn find(what: &str, variable: &str, default: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map_or_else(|| root().join(default), PathBuf::from);
    if !path.exists() {
        eprintln!("skipped: no {what} at {} (set {variable})", path.display());
        return None;
    }
    Some(path)
}

/// A file or folder of the reference data.
fn shared(name: &str) -> Option<PathBuf> {
    let path = root().join("../shared").join(name);
    if !path.exists() {
        eprintln!("skipped: no reference data at {}", path.display());
        return None;
    }
    Some(path)
}

fn onnx_runtime() -> Option<OnnxRuntime> {
    let path = find("ONNX Runtime", "SUSX_TEST_ONNXRUNTIME", "build/onnxruntime/libonnxruntime.so")?;
    Some(OnnxRuntime::load(&path).unwrap())
}

fn models() -> Option<PathBuf> {
    find("models of tests/models/tiny_clip.py", "SUSX_TEST_MODELS", "build/test-models")
}

/// An empty folder that is removed at the end.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> TempDir {
        let path = std::env::temp_dir().join(format!("susx-clip-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
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
