//! Which of a classifier's prompts are used to retrieve or generate support images.

use crate::pg::error::{Error, Result};

/// The paper's prompting strategies (section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompting {
    /// The prompts with which the classifier was created.
    Photo,
    /// The sentences that were added to the classifier.
    Cupl,
}

impl Prompting {
    const ALL: [Prompting; 2] = [Prompting::Photo, Prompting::Cupl];

    pub fn name(self) -> &'static str {
        match self {
            Prompting::Photo => "photo",
            Prompting::Cupl => "cupl",
        }
    }

    pub fn named(name: &str) -> Result<Self> {
        let found = Prompting::ALL.into_iter().find(|prompting| prompting.name() == name);
        found.ok_or_else(|| {
            let hint = format!("Promptings: {}.", Prompting::ALL.map(Prompting::name).join(", "));
            Error::argument(format!("unknown prompting \"{name}\"")).with_hint(hint)
        })
    }

    /// The origins of the prompts that it uses.
    pub fn origins(self) -> &'static [&'static str] {
        match self {
            Prompting::Photo => &["template", "given"],
            Prompting::Cupl => &["cupl"],
        }
    }

    /// The error that a classifier has no such prompts.
    pub fn no_prompts(self) -> Error {
        let message = format!("the classifier has no prompts for prompting \"{}\"", self.name());
        match self {
            Prompting::Photo => Error::argument(message),
            Prompting::Cupl => Error::argument(message)
                .with_hint("Add sentences with susx.add_prompts, or use prompting => 'photo'."),
        }
    }
}
