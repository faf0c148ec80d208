//! The weight files that an ONNX graph names.
//!
//! A graph may keep its tensors in other files ("external data"), under any relative name. They count towards the
//! model's digest and size, and they must not lie outside its directory: otherwise a malicious graph could read any
//! file of the server. ONNX Runtime rejects such names too (tested with 1.32: absolute names, `..`, and symbolic
//! links), but we do not rely on it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{OnnxError, Result};
use super::model_dir::file_below;

/// The files of `locations`, of the graph at `path`. Each location has the length that its file must have at least. All lie
/// in the graph's folder or below.
pub(super) fn files(path: &Path, locations: &BTreeMap<String, u64>) -> Result<Vec<PathBuf>> {
    let failed = |error: io::Error| OnnxError::file(path, error);
    let folder = path.parent().unwrap_or(Path::new("."));
    let real = folder.canonicalize().map_err(failed)?;
    let mut files = Vec::new();
    for (location, &expected) in locations {
        let refused = |reason: String| OnnxError::file(path, format!("external weights: {reason}"));
        let file = file_below(folder, location).map_err(refused)?;
        if !file.canonicalize().map_err(failed)?.starts_with(&real) {
            return Err(refused(format!("{location:?} is a link that leads out of the model's directory")));
        }
        let found = file.metadata().map_err(failed)?.len();
        if found < expected {
            return Err(refused(format!("{location:?} has {found} bytes, expected at least {expected}")));
        }
        files.push(file);
    }
    Ok(files)
}
