//! `susx-server check`: loads a model as the server does, prints its properties, and tests whether it works.

mod embedder;
mod generator;
mod picture;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use susx_core::onnx::model_dir::is_generator;
use susx_core::onnx::{ExecutionProvider, OnnxRuntime, SessionOptions};

use self::report::Report;

/// Name of ONNX Runtime's library for the dynamic loader, as in the server.
const SYSTEM_LIBRARY: &str = "libonnxruntime.so";

/// Loads a model as the server does, prints its properties, and tests it.
///
/// The exit status is 0 if the model loads and passes the tests, and 1 otherwise.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Directory of the model.
    dir: PathBuf,
    /// Path of ONNX Runtime's library (susx.onnxruntime_library).
    #[arg(long, value_name = "PATH", default_value = SYSTEM_LIBRARY)]
    onnxruntime: PathBuf,
    /// Execution provider (susx.execution_provider).
    #[arg(long, default_value = "auto")]
    provider: ExecutionProvider,
    /// Number of the GPU (susx.gpu_device).
    #[arg(long, default_value_t = 0)]
    gpu_device: i32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the tool, and reports on standard output.
pub fn run(arguments: &Arguments) -> ExitCode {
    let mut report = Report::new(&arguments.dir);
    if let Err(error) = check(arguments, &mut report) {
        report.error = Some(error);
    }
    match arguments.json {
        true => println!("{}", report.json()),
        false => print!("{report}"),
    }
    if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The error is a sentence.
fn check(arguments: &Arguments, report: &mut Report) -> Result<(), String> {
    let dir = &arguments.dir;
    let real = dir.canonicalize().map_err(|error| format!("{}: {error}", dir.display()))?;
    let (Some(model_dir), Some(name)) = (real.parent(), real.file_name().and_then(|name| name.to_str()))
    else {
        return Err(format!("{} is not the directory of a model", dir.display()));
    };
    let options = SessionOptions {
        provider: arguments.provider,
        device_id: arguments.gpu_device,
        ..SessionOptions::default()
    };
    let model = Model { model_dir, name, library: &arguments.onnxruntime, options };
    match is_generator(model_dir, name) {
        true => generator::check(&model, report),
        false => embedder::check(&model, report),
    }
}

/// A model that is checked.
struct Model<'a> {
    model_dir: &'a Path,
    name: &'a str,
    library: &'a Path,
    options: SessionOptions,
}

impl Model<'_> {
    fn runtime(&self) -> Result<OnnxRuntime, String> {
        OnnxRuntime::load(self.library).map_err(|error| {
            format!(
                "{error}. --onnxruntime names the library, as susx.onnxruntime_library does for the server"
            )
        })
    }
}
