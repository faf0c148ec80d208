//! Why a model could not be downloaded.

use std::io;
use std::path::{Path, PathBuf};

use super::catalogue;

/// Every failure of `susx-server fetch`. The texts are for the administrator.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{0}")]
    Argument(String),

    #[error("{} exists, but is not the requested model", .0.display())]
    Exists(PathBuf),

    #[error("another `susx-server fetch` is downloading into {}", .0.display())]
    Busy(PathBuf),

    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },

    #[error("cannot reach {url}: {reason}")]
    Network { url: String, reason: String },

    #[error("the hub denies access to {what} (status 401 or 403{})", reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    Refused { what: String, reason: Option<String>, had_token: bool },

    #[error("the hub has no {0} (status 404)")]
    Missing(String),

    #[error("{url} returned status {status}")]
    Status { url: String, status: u16 },

    #[error("cannot use the hub's answer from {url}: {reason}")]
    Answer { url: String, reason: String },

    #[error("the redirect from {from} to {to} is not followed: {reason}")]
    Redirect { from: String, to: String, reason: &'static str },

    #[error("{repo} has no ONNX files in a layout that susx reads")]
    NoOnnx { repo: String },

    #[error("{repo} has no weights in {wanted}; it has {found}")]
    NoSuchPrecision { repo: String, wanted: String, found: String },

    #[error("the files of {repo} ({listed} on the hub) are incomplete: {reason}")]
    Incomplete { repo: String, listed: usize, reason: String },

    #[error("{path} has {found} bytes, but the hub says {expected}")]
    Size { path: String, expected: u64, found: u64 },

    #[error("{path} has the SHA-256 {found}, but the hub says {expected}")]
    Sha256 { path: String, expected: String, found: String },
}

impl FetchError {
    pub fn file(path: &Path, error: io::Error) -> FetchError {
        FetchError::File { path: path.to_owned(), error }
    }

    /// Whether the same request may succeed a moment later.
    pub fn is_temporary(&self) -> bool {
        match self {
            FetchError::Network { .. } => true,
            FetchError::Status { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }

    /// What to do.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            FetchError::Exists(_) => "Remove it, or fetch under another name with --rename.".into(),
            FetchError::Refused { had_token: true, .. } => {
                "The token in HF_TOKEN does not give access. Check that the model exists and that you have accepted its \
                 terms on its page."
                    .into()
            }
            FetchError::Refused { .. } => {
                "The hub returns this status for models that do not exist, or that need a token: set HF_TOKEN.".into()
            }
            FetchError::Network { .. } => "Run the same command again: it continues where this one stopped.".into(),
            FetchError::Status { .. } if self.is_temporary() => {
                "Run the same command again later: it continues where this one stopped.".into()
            }
            FetchError::NoOnnx { repo } => match catalogue::exports_of(repo) {
                Some(export) => format!("{export} is an export of it."),
                None => format!(
                    "`susx-server fetch --list` lists models that have them. To create them: optimum-cli export onnx \
                     --model {repo} DIR"
                ),
            },
            FetchError::NoSuchPrecision { .. } => "Choose one of them with --dtype.".into(),
            FetchError::Size { .. } | FetchError::Sha256 { .. } => {
                "The file was removed. Run the same command again to download it once more.".into()
            }
            _ => return None,
        };
        Some(hint)
    }
}
