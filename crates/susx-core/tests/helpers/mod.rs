//! Shared by the tests that need fixtures from outside the repository.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use susx_core::onnx::OnnxRuntime;

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The path that the variable names. Panics if it does not exist. Tests that need it are ignored unless the variable is
/// set: see `build.rs`.
pub fn find(what: &str, variable: &str, default: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(|| root().join(default), PathBuf::from);
    assert!(path.exists(), "no {what} at {}: run `make test`, or set {variable}", path.display());
    path
}

pub fn onnx_runtime() -> OnnxRuntime {
    let path = find("ONNX Runtime", "SUSX_TEST_ONNXRUNTIME", "build/onnxruntime/libonnxruntime.so");
    OnnxRuntime::load(&path).unwrap()
}

/// An empty folder that is removed at the end. Tests run at the same time, so each call makes another one.
pub struct TempDir(pub PathBuf);

static TEMP_DIRS: AtomicUsize = AtomicUsize::new(0);

impl TempDir {
    pub fn new(name: &str) -> TempDir {
        let number = TEMP_DIRS.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("susx-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
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
