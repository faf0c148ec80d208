//! The ONNX Runtime library, loaded from a path at run time.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ort::LoadDynamicError;
use ort::environment::Environment;
use ort::ep::{CUDA, ExecutionProvider as _};

use super::error::{OnnxError, Result};

/// The loaded ONNX Runtime library. A process loads it once; all clones share it.
#[derive(Clone, Debug)]
pub struct OnnxRuntime {
    path: PathBuf,
    environment: Environment,
}

/// `ort` keeps the library and the environment in statics and fails on a second call, so we remember the first.
static LOADED: Mutex<Option<OnnxRuntime>> = Mutex::new(None);

impl OnnxRuntime {
    /// Loads the library at `path`, which must be ONNX Runtime 1.24 or newer. The dynamic loader searches for a
    /// name without a folder.
    ///
    /// A second call with the same library returns the loaded one. Another library is an error, because it
    /// would need a new process. A call that failed can be repeated. Every error is [`OnnxError::Runtime`].
    pub fn load(path: &Path) -> Result<OnnxRuntime> {
        let failed = |reason: String| OnnxError::Runtime { path: path.to_owned(), reason };
        let real = if is_bare_name(path) { path.to_owned() } else { file(path).map_err(failed)? };
        let mut loaded = LOADED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(runtime) = &*loaded {
            return match runtime.path == real {
                true => Ok(runtime.clone()),
                false => Err(failed(format!("this process has already loaded {}", runtime.path.display()))),
            };
        }
        let builder = ort::init_from(&real).map_err(|error| failed(reason(&error)))?;
        let environment = builder
            .with_name("susx")
            .with_telemetry(false)
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let runtime = OnnxRuntime { path: real, environment };
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }

    /// The library's file, symbolic links resolved, or the name that the dynamic loader searched for.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The library's own description: version, commit and build flags.
    pub fn build_info(&self) -> &'static str {
        ort::info()
    }

    /// Whether the library was built for NVIDIA GPUs. Only a run shows whether a GPU works.
    pub fn has_cuda(&self) -> bool {
        CUDA::is_available().unwrap_or(false)
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }
}

fn is_bare_name(path: &Path) -> bool {
    path.file_name() == Some(path.as_os_str())
}

/// The library's file, symbolic links resolved: ONNX Runtime looks for its GPU providers in the folder that it was
/// loaded from.
fn file(path: &Path) -> Result<PathBuf, String> {
    let real = path.canonicalize().map_err(|error| error.to_string())?;
    // The dynamic loader would wait for ever if the path were a pipe.
    if real.is_file() { Ok(real) } else { Err("not a regular file".into()) }
}

/// What is wrong with a library. The surrounding error names the path.
fn reason(error: &LoadDynamicError) -> String {
    match error {
        // The dynamic loader's message is in the source, such as "invalid ELF header".
        LoadDynamicError::Dlopen { error, .. } => {
            error.source().map_or_else(|| error.to_string(), |source| source.to_string())
        }
        LoadDynamicError::MissingApi { .. } => "it is a library, but not ONNX Runtime".into(),
        LoadDynamicError::BadVersion { version_str, .. } => {
            format!("expected ONNX Runtime 1.{} or newer, found {version_str}", ort::MINOR_VERSION)
        }
        LoadDynamicError::InvalidVersionString => error.to_string(),
    }
}
