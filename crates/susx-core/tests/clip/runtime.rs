//! Loading ONNX Runtime: a bad path gives an error, not a crash.

use std::path::Path;

use susx_core::onnx::{OnnxError, OnnxRuntime};

use crate::{TempDir, onnx_runtime};

fn reason(path: &Path) -> String {
    match OnnxRuntime::load(path) {
        Err(OnnxError::Runtime { path: reported, reason }) => {
            assert_eq!(reported, path);
            reason
        }
        other => panic!("{other:?}"),
    }
}

/// The reason must be the expected one, or that another test has already loaded a real library in this process.
fn refused(path: &Path, expected: &str) {
    let reason = reason(path);
    assert!(reason.contains(expected) || reason.contains("already loaded"), "{}: {reason}", path.display());
}

#[test]
fn what_is_no_onnx_runtime_is_refused() {
    let dir = TempDir::new("runtime");
    assert!(reason(Path::new("/nonexistent/libonnxruntime.so")).contains("No such file"));
    assert!(reason(&dir.0).contains("not a regular file"));
    assert!(reason(Path::new("/dev/null")).contains("not a regular file"));
    let text = dir.write("libtext.so", "this is no library\n".repeat(100));
    refused(&text, "ELF");
    let empty = dir.write("libempty.so", "");
    refused(&empty, "");
    // A library, but not ONNX Runtime.
    let libc = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6", "/lib64/libm.so.6"];
    if let Some(libm) = libc.iter().map(Path::new).find(|path| path.exists()) {
        refused(libm, "not ONNX Runtime");
    }
}

#[test]
#[cfg_attr(not(test_onnxruntime), ignore = "needs SUSX_TEST_ONNXRUNTIME: see `make -s env`")]
fn a_second_load_gives_the_same_library() {
    let runtime = onnx_runtime();
    assert!(runtime.build_info().contains("ORT"), "{}", runtime.build_info());
    let again = OnnxRuntime::load(runtime.path()).unwrap();
    assert_eq!(again.path(), runtime.path());
    let dir = TempDir::new("second");
    let copy = dir.0.join("libonnxruntime.so");
    std::fs::copy(runtime.path(), &copy).unwrap();
    assert!(reason(&copy).contains("already loaded"));
}
