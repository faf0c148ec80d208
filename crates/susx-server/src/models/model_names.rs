//! Which model a request means, by its name or where it names none.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use susx_core::clip;
use susx_core::onnx::model_dir::{self, check_model_name};

use crate::limits;
use crate::protocol::{self, Failure, FailureKind};

/// What a model is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Turning images and texts into vectors.
    Embedding,
    /// Turning prompts into images.
    Generation,
}

/// The names of the models of a directory, read again when it has changed.
#[derive(Debug, Default)]
pub struct ModelNames {
    listed: Mutex<Option<Listed>>,
}

#[derive(Clone, Debug)]
struct Listed {
    /// The directory and those in it, in whose places others may come.
    folders: Vec<(PathBuf, Option<Change>)>,
    /// Whether their changes were long ago when they were read.
    is_settled: bool,
    embedders: Vec<String>,
    generators: Vec<String>,
}

/// What tells a directory from what it was before a change of the names in it: its number, and when it was changed
/// last.
type Change = (u64, SystemTime);

/// A directory that was changed so short a time ago may be changed again without another time of change.
const UNSETTLED: Duration = Duration::from_secs(2);

impl ModelNames {
    /// The model of that name; without a name, the only one of its kind.
    ///
    /// A name that is none is refused when the model is read; here, only a model of the other kind.
    pub fn resolve(&self, dir: &Path, name: Option<&str>, purpose: Purpose) -> Result<String, Failure> {
        let Some(name) = name else { return only(dir, purpose, self.of(dir, purpose)?) };
        if name.len() > limits::MAX_NAME_BYTES {
            return Err(protocol::no_model_has_such_a_name(name.len()).hint(known(dir, purpose)));
        }
        if check_model_name(name).is_ok() && dir.join(name).is_dir() {
            let is_generator = model_dir::is_generator(dir, name);
            let wrong = match purpose {
                Purpose::Embedding if is_generator => "generates images and embeds nothing",
                Purpose::Generation if !is_generator => "generates no images: it has no model_index.json",
                _ => return Ok(name.to_owned()),
            };
            let failure = Failure::new(FailureKind::WrongModel, format!("the model \"{name}\" {wrong}"));
            return Err(failure.hint(known(dir, purpose)));
        }
        Ok(name.to_owned())
    }

    /// All of a kind, in order.
    pub fn of(&self, dir: &Path, purpose: Purpose) -> Result<Vec<String>, Failure> {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let listed = match &mut *listed {
            Some(listed) if listed.is_current(dir) => listed,
            other => other.insert(Listed::read(dir)?),
        };
        Ok(match purpose {
            Purpose::Embedding => listed.embedders.clone(),
            Purpose::Generation => listed.generators.clone(),
        })
    }
}

impl Listed {
    fn read(dir: &Path) -> Result<Listed, Failure> {
        let now = SystemTime::now();
        let seen = |path: PathBuf| {
            let change = change(&path);
            (path, change)
        };
        // Each is looked at before it is read: what changes meanwhile has changed since.
        let mut folders = vec![seen(dir.to_owned())];
        for purpose in [Purpose::Embedding, Purpose::Generation] {
            folders.extend(names(dir, purpose)?.into_iter().map(|name| seen(dir.join(name))));
        }
        let (embedders, generators) = (names(dir, Purpose::Embedding)?, names(dir, Purpose::Generation)?);
        let is_old = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age > UNSETTLED);
        let is_settled = folders.iter().all(|(_, change)| change.is_some_and(|(_, at)| is_old(at)));
        Ok(Listed { folders, is_settled, embedders, generators })
    }

    /// Whether no name was added to the directory or to one of those in it, or taken away.
    fn is_current(&self, dir: &Path) -> bool {
        self.is_settled
            && self.folders.first().is_some_and(|(listed, _)| listed == dir)
            && self.folders.iter().all(|(path, before)| before.is_some() && change(path) == *before)
    }
}

fn change(dir: &Path) -> Option<Change> {
    let metadata = dir.metadata().ok()?;
    Some((metadata.ino(), metadata.modified().ok()?))
}

/// An error that names no model, with those that there are.
pub fn with_known(failure: Failure, dir: &Path, purpose: Purpose) -> Failure {
    match failure.kind {
        FailureKind::UnknownModel => failure.hint(known(dir, purpose)),
        _ => failure,
    }
}

fn only(dir: &Path, purpose: Purpose, mut names: Vec<String>) -> Result<String, Failure> {
    match (names.pop(), names.is_empty()) {
        (Some(name), true) => Ok(name),
        (None, _) => {
            let message = format!("there is no {} in {}", purpose.noun(), dir.display());
            Err(Failure::new(FailureKind::Configuration, message).hint(purpose.how_to_add()))
        }
        (Some(_), false) => {
            let message = format!("there are several {}s and none was chosen", purpose.noun());
            let how = match purpose {
                Purpose::Embedding => "Name one in the call or in the setting susx.model.",
                Purpose::Generation => "Name one in the call.",
            };
            let hint = format!("{how} {}", known(dir, purpose));
            Err(Failure::new(FailureKind::Configuration, message).hint(hint))
        }
    }
}

fn names(dir: &Path, purpose: Purpose) -> Result<Vec<String>, Failure> {
    Ok(match purpose {
        Purpose::Embedding => clip::model_names(dir)?,
        Purpose::Generation => model_dir::generator_names(dir)?,
    })
}

fn known(dir: &Path, purpose: Purpose) -> String {
    let noun = purpose.noun();
    match names(dir, purpose) {
        Ok(names) if names.is_empty() => {
            format!("There is no {noun} in {}. {}", dir.display(), purpose.how_to_add())
        }
        Ok(names) => {
            let capital = noun[..1].to_uppercase() + &noun[1..];
            format!("{capital}s in {}: {}.", dir.display(), names.join(", "))
        }
        Err(failure) => failure.message,
    }
}

impl Purpose {
    fn noun(self) -> &'static str {
        match self {
            Purpose::Embedding => "model",
            Purpose::Generation => "generator",
        }
    }

    fn how_to_add(self) -> &'static str {
        match self {
            Purpose::Embedding => "Put a model's directory there: a CLIP in the Hugging Face ONNX layout.",
            Purpose::Generation => {
                "Put a generator's directory there: a Stable Diffusion in the ONNX layout of diffusers."
            }
        }
    }
}
