//! The argument `on_error`: what happens to images that cannot be embedded.

use crate::pg::error::{Error, Result};

/// What happens to images that cannot be embedded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// They are recorded in `susx.errors`.
    Record,
    /// The same, and images that were recorded before are tried again.
    Retry,
    /// The first one ends the call with an error.
    Stop,
}

impl OnError {
    pub const ALL: [OnError; 3] = [OnError::Record, OnError::Retry, OnError::Stop];

    pub fn name(self) -> &'static str {
        match self {
            OnError::Record => "record",
            OnError::Retry => "retry",
            OnError::Stop => "stop",
        }
    }

    /// The value of that name; an error if it is not among those `allowed`.
    pub fn named(name: &str, allowed: &[OnError]) -> Result<Self> {
        let found = allowed.iter().copied().find(|on_error| on_error.name() == name);
        found.ok_or_else(|| {
            let names = allowed.iter().map(|it| it.name()).collect::<Vec<_>>().join(", ");
            Error::argument(format!("unknown on_error \"{name}\""))
                .with_hint(format!("It is one of: {names}."))
        })
    }
}
