//! Finds the model that a request asks for, by name or as the only one of its kind.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use susx_core::clip::{self, ModelConfig, ModelKind};
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

/// Names of the models in the model directory, read again when the directory has changed.
#[derive(Debug, Default)]
pub struct ModelNames {
    listing: Mutex<Option<Listing>>,
}

#[derive(Clone, Debug)]
struct Listing {
    /// The model directory and each model's directory, with their versions when they were read.
    dirs: Vec<(PathBuf, Option<DirVersion>)>,
    /// Whether all of them were last changed more than [`SETTLE_TIME`] before they were read.
    is_settled: bool,
    embedders: Vec<String>,
    /// Those that may be meant if none is named.
    default_embedders: Vec<String>,
    generators: Vec<String>,
}

/// Inode and modification time of a directory, which change when a name is added or removed.
type DirVersion = (u64, SystemTime);

/// A directory that was modified more recently than this may change again without a new modification time, because
/// file systems round that.
const SETTLE_TIME: Duration = Duration::from_secs(2);

impl ModelNames {
    /// The model `name`; without a name, the only one of its kind. If a single model embeds text, models that embed
    /// only images do not count: they are for likeness vectors.
    ///
    /// Fails for an overlong name, for a model of the other kind, and without a name if there is not exactly one
    /// model. A name without a model passes and fails when the model is read.
    pub fn resolve(&self, dir: &Path, name: Option<&str>, purpose: Purpose) -> Result<String, Failure> {
        let Some(name) = name else {
            return only(dir, purpose, self.with_listing(dir, |listing| listing.defaults(purpose))?);
        };
        if name.len() > limits::MAX_NAME_BYTES {
            return Err(protocol::model_name_too_long(name.len()).hint(available(dir, purpose)));
        }
        if check_model_name(name).is_ok() && dir.join(name).is_dir() {
            let is_generator = model_dir::is_generator(dir, name);
            let wrong = match purpose {
                Purpose::Embedding if is_generator => "generates images and embeds nothing",
                Purpose::Generation if !is_generator => "generates no images: it has no model_index.json",
                _ => return Ok(name.to_owned()),
            };
            let failure = Failure::new(FailureKind::WrongModel, format!("the model \"{name}\" {wrong}"));
            return Err(failure.hint(available(dir, purpose)));
        }
        Ok(name.to_owned())
    }

    /// Names of all models of a kind, sorted.
    pub fn list(&self, dir: &Path, purpose: Purpose) -> Result<Vec<String>, Failure> {
        self.with_listing(dir, |listing| match purpose {
            Purpose::Embedding => listing.embedders.clone(),
            Purpose::Generation => listing.generators.clone(),
        })
    }

    fn with_listing<T>(&self, dir: &Path, of: impl FnOnce(&Listing) -> T) -> Result<T, Failure> {
        let mut listing = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        let listing = match &mut *listing {
            Some(listing) if listing.is_current(dir) => listing,
            other => other.insert(Listing::read(dir)?),
        };
        Ok(of(listing))
    }
}

impl Listing {
    /// The models that may be meant if none is named.
    fn defaults(&self, purpose: Purpose) -> Vec<String> {
        match purpose {
            Purpose::Embedding => self.default_embedders.clone(),
            Purpose::Generation => self.generators.clone(),
        }
    }

    fn read(dir: &Path) -> Result<Listing, Failure> {
        let now = SystemTime::now();
        let with_version = |path: PathBuf| {
            let version = version(&path);
            (path, version)
        };
        // Versions are taken before the directories are read, so that a change in between is noticed later.
        let mut dirs = vec![with_version(dir.to_owned())];
        for purpose in [Purpose::Embedding, Purpose::Generation] {
            dirs.extend(names(dir, purpose)?.into_iter().map(|name| with_version(dir.join(name))));
        }
        let (embedders, generators) = (names(dir, Purpose::Embedding)?, names(dir, Purpose::Generation)?);
        let is_old = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age > SETTLE_TIME);
        let is_settled = dirs.iter().all(|(_, version)| version.is_some_and(|(_, at)| is_old(at)));
        let default_embedders = default_embedders(dir, &embedders);
        Ok(Listing { dirs, is_settled, embedders, default_embedders, generators })
    }

    /// Whether no name was added to or removed from these directories since they were read.
    fn is_current(&self, dir: &Path) -> bool {
        self.is_settled
            && self.dirs.first().is_some_and(|(path, _)| path == dir)
            && self.dirs.iter().all(|(path, before)| before.is_some() && version(path) == *before)
    }
}

/// The models without those that embed only images, if that leaves a single one; else all.
fn default_embedders(dir: &Path, embedders: &[String]) -> Vec<String> {
    // A model with mistakes in its configuration may be any, and one with a broken text encoder should have one.
    let embeds_text = |name: &&String| {
        ModelConfig::read(dir, name)
            .map_or(true, |config| config.kind() != ModelKind::Vision || config.broken.text.is_some())
    };
    let of_text: Vec<String> = embedders.iter().filter(embeds_text).cloned().collect();
    if of_text.len() == 1 { of_text } else { embedders.to_vec() }
}

fn version(dir: &Path) -> Option<DirVersion> {
    let metadata = dir.metadata().ok()?;
    Some((metadata.ino(), metadata.modified().ok()?))
}

/// Adds the available models as a hint to a failure about an unknown model.
pub fn with_available(failure: Failure, dir: &Path, purpose: Purpose) -> Failure {
    match failure.kind {
        FailureKind::UnknownModel => failure.hint(available(dir, purpose)),
        _ => failure,
    }
}

/// The only model of a kind; an error if there is none or more than one.
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
            let hint = format!("{how} {}", available(dir, purpose));
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

/// Lists the available models, for a hint.
fn available(dir: &Path, purpose: Purpose) -> String {
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
