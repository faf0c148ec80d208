//! `susx-server fetch`: downloads a model from a hub that speaks Hugging Face's HTTP API.
//!
//! Only the administrator runs this, in a shell. The process that serves PostgreSQL never runs this code, and opens no
//! network connection.
//!
//! The files go into a hidden directory next to the new one, which is renamed once all are there and verified. If a
//! download is interrupted, the next one continues in that directory.

mod catalogue;
mod download;
mod error;
mod hub;
mod plan;
mod record;
mod staging;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use susx_core::onnx::model_dir::check_model_name;

use self::error::FetchError;
use self::hub::{Hub, Listing};
use self::plan::Plan;
use self::record::Record;
use self::staging::Staging;

/// Downloads a model: only the files that susx needs.
///
/// Environment: HF_ENDPOINT is the address of the hub (by default https://huggingface.co), HF_TOKEN is a token for
/// models that need one, and HTTPS_PROXY is a proxy.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Model to download: owner/name on the hub, or a name from `--list`.
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// List models whose files susx can read.
    #[arg(long)]
    list: bool,
    /// Precision of the weights: fp32, fp16, q8, int8, uint8, q4, q4f16 or bnb4.
    #[arg(long)]
    dtype: Option<String>,
    /// Directory of models (susx.model_dir) in which to create the model's directory.
    #[arg(long, value_name = "DIR", default_value = ".")]
    into: PathBuf,
    /// Name of the model's directory, which is its name in SQL; by default, the name without its owner.
    #[arg(long, value_name = "NAME")]
    rename: Option<String>,
    /// Commit, branch or tag of the model.
    #[arg(long, value_name = "SHA", default_value = "main")]
    revision: String,
}

/// Runs the tool, and reports on standard output and standard error.
pub fn run(arguments: &Arguments) -> ExitCode {
    let Some(name) = arguments.name.as_deref().filter(|_| !arguments.list) else {
        print!("{}", catalogue::table());
        return ExitCode::SUCCESS;
    };
    match fetch(name, arguments) {
        Ok(dir) => {
            println!("next: susx-server check {}", dir.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Returns the model's directory.
fn fetch(name: &str, arguments: &Arguments) -> Result<PathBuf, FetchError> {
    let repo = repository(name)?;
    let own_name = repo.rsplit('/').next().unwrap_or(repo);
    let directory = arguments.rename.as_deref().unwrap_or(own_name);
    check_model_name(directory).map_err(|error| FetchError::Argument(error.to_string()))?;
    let target = arguments.into.join(directory);

    let hub = Hub::from_environment()?;
    let listing = hub.listing(repo, &arguments.revision)?;
    let wanted = Record::new(hub.endpoint(), repo, &listing.commit, arguments.dtype.as_deref());
    if target.symlink_metadata().is_ok() {
        return already_there(&target, &wanted);
    }
    let plan = Plan::new(repo, &listing, arguments.dtype.as_deref())?;
    let staging = Staging::open(&arguments.into, directory, &wanted)?;
    let downloaded = download_all(&hub, &wanted, &plan, &listing, &staging)?;
    staging.publish(&wanted.with_files(downloaded), &target)?;
    println!("fetched {repo} at {} into {}", listing.commit, target.display());
    Ok(target)
}

/// The hub's name of the model that was asked for.
fn repository(name: &str) -> Result<&str, FetchError> {
    if let Some(entry) = catalogue::by_name(name) {
        return Ok(entry.repo);
    }
    let is_part = |part: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !part.is_empty() && part.bytes().all(known) && part.trim_matches('.') == part
    };
    match name.split_once('/') {
        Some((owner, model)) if is_part(owner) && is_part(model) => Ok(name),
        _ => Err(FetchError::Argument(format!(
            "{name:?} is not a model: expected owner/name, or a name from `susx-server fetch --list`"
        ))),
    }
}

/// The result if the model's directory exists: it is what was asked for, or stays as it is.
fn already_there(target: &Path, wanted: &Record) -> Result<PathBuf, FetchError> {
    match Record::read(target) {
        Ok(Some(found)) if found.is_of(wanted) => {
            found.verify(target)?;
            println!("{} is already there, complete and unchanged", target.display());
            Ok(target.to_owned())
        }
        _ => Err(FetchError::Exists(target.to_owned())),
    }
}

/// Downloads the graphs and the configuration, then the weights next to the graphs.
fn download_all(
    hub: &Hub,
    wanted: &Record,
    plan: &Plan,
    listing: &Listing,
    staging: &Staging,
) -> Result<Vec<record::File>, FetchError> {
    let bytes = plan.files.iter().map(|file| file.size).sum();
    let progress = download::Progress::new(bytes);
    let mut files = Vec::new();
    for file in &plan.files {
        files.push(download::file(hub, wanted, file, staging, &progress)?);
    }
    progress.finish();
    // Fails if a graph names weights that the plan does not have.
    let graphs: Vec<PathBuf> = plan.graphs.iter().map(|path| staging.path(path)).collect();
    let graphs: Vec<&Path> = graphs.iter().map(PathBuf::as_path).collect();
    susx_core::onnx::digest::size(staging.dir(), &graphs).map_err(|error| FetchError::Incomplete {
        repo: wanted.repo.clone(),
        listed: listing.files.len(),
        reason: error.to_string(),
    })?;
    Ok(files)
}
