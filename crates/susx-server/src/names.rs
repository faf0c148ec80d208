//! Which model a request means, by its name or where it names none.

use std::path::Path;

use susx_core::clip::{self, check_model_name};
use susx_core::sus::diffusion;

use crate::protocol::{Failure, FailureKind};

/// What a model is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It makes vectors.
    Embedder,
    /// It makes images.
    Generator,
}

/// The model of that name; without a name, the only one of its kind.
///
/// A name that is none is refused when the model is read; here, only a model of the other kind.
pub fn resolve(dir: &Path, name: Option<&str>, kind: Kind) -> Result<String, Failure> {
    let Some(name) = name else { return only(dir, kind) };
    if check_model_name(name).is_ok() && dir.join(name).is_dir() {
        let is_generator = diffusion::is_generator(dir, name);
        let wrong = match kind {
            Kind::Embedder if is_generator => "generates images and embeds nothing",
            Kind::Generator if !is_generator => "generates no images: it has no model_index.json",
            _ => return Ok(name.to_owned()),
        };
        let failure = Failure::new(FailureKind::WrongModel, format!("the model \"{name}\" {wrong}"));
        return Err(failure.hint(known(dir, kind)));
    }
    Ok(name.to_owned())
}

/// An error that names no model, with those that there are.
pub fn with_known(failure: Failure, dir: &Path, kind: Kind) -> Failure {
    match failure.kind {
        FailureKind::UnknownModel => failure.hint(known(dir, kind)),
        _ => failure,
    }
}

fn only(dir: &Path, kind: Kind) -> Result<String, Failure> {
    let mut names = names(dir, kind)?;
    match (names.pop(), names.is_empty()) {
        (Some(name), true) => Ok(name),
        (None, _) => {
            let message = format!("there is no {} in {}", kind.noun(), dir.display());
            Err(Failure::new(FailureKind::Configuration, message).hint(kind.how_to_add()))
        }
        (Some(_), false) => {
            let message = format!("there are several {}s and none was chosen", kind.noun());
            let how = match kind {
                Kind::Embedder => "Name one in the call or in the setting susx.model.",
                Kind::Generator => "Name one in the call.",
            };
            let hint = format!("{how} {}", known(dir, kind));
            Err(Failure::new(FailureKind::Configuration, message).hint(hint))
        }
    }
}

fn names(dir: &Path, kind: Kind) -> Result<Vec<String>, Failure> {
    Ok(match kind {
        Kind::Embedder => clip::list_models(dir)?.into_iter().map(|(name, _)| name).collect(),
        Kind::Generator => diffusion::list_generators(dir)?.into_iter().map(|(name, _)| name).collect(),
    })
}

fn known(dir: &Path, kind: Kind) -> String {
    let noun = kind.noun();
    match names(dir, kind) {
        Ok(names) if names.is_empty() => {
            format!("There is no {noun} in {}. {}", dir.display(), kind.how_to_add())
        }
        Ok(names) => {
            let capital = noun[..1].to_uppercase() + &noun[1..];
            format!("{capital}s in {}: {}.", dir.display(), names.join(", "))
        }
        Err(failure) => failure.message,
    }
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Kind::Embedder => "model",
            Kind::Generator => "generator",
        }
    }

    fn how_to_add(self) -> &'static str {
        match self {
            Kind::Embedder => "Put a model's directory there: a CLIP in the Hugging Face ONNX layout.",
            Kind::Generator => {
                "Put a generator's directory there: a Stable Diffusion in the ONNX layout of diffusers."
            }
        }
    }
}
