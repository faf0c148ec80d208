//! Models that an earlier inference process hung in, so that the next one does not load them again.
//!
//! They are listed in a file next to the socket. The supervisor removes the file when PostgreSQL is started or
//! reloaded. A model is also tried again once its files have changed.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::protocol;

/// Name of the file, in the socket's directory.
pub const FILE: &str = "stuck";
/// Maximum number of entries, far more than a model directory has; the oldest are dropped.
const MAX_ENTRIES: usize = 1000;

/// The file with the list.
#[derive(Clone, Debug)]
pub struct StuckModels {
    path: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    model: String,
    /// Stamp of the model's files.
    stamp: [u8; 32],
    message: String,
}

impl StuckModels {
    /// The list of the server with this socket.
    pub fn beside(socket: &Path) -> Self {
        StuckModels { path: socket.with_file_name(FILE) }
    }

    /// Why a model is not to be loaded; `None` unless a process hung in it and its files are unchanged.
    pub fn message(&self, model: &str, stamp: &[u8; 32]) -> Option<String> {
        let is_same = |entry: &Entry| entry.model == model && entry.stamp == *stamp;
        self.read().into_iter().find(is_same).map(|entry| entry.message)
    }

    /// Adds a model that this process hangs in, or replaces its entry.
    pub fn record(&self, model: &str, stamp: [u8; 32], message: &str) -> io::Result<()> {
        let mut entries = self.read();
        entries.retain(|entry| entry.model != model);
        entries.push(Entry { model: model.to_owned(), stamp, message: message.to_owned() });
        entries.drain(..entries.len().saturating_sub(MAX_ENTRIES));
        let bytes = protocol::encode(&entries).map_err(io::Error::other)?;
        // Replaced by a rename, so that readers see either the old or the new list.
        let new = self.path.with_extension("new");
        fs::write(&new, bytes)?;
        fs::rename(&new, &self.path)
    }

    fn read(&self) -> Vec<Entry> {
        match fs::read(&self.path) {
            Ok(bytes) => bytes
                .get(protocol::LENGTH_BYTES..)
                .and_then(|message| protocol::decode(message).ok())
                .unwrap_or_default(),
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    log::warn!("cannot read {}: {error}", self.path.display());
                }
                Vec::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_listed_until_its_files_change() -> io::Result<()> {
        let folder = std::env::temp_dir().join(format!("susx-stuck-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let stuck = StuckModels::beside(&folder.join("socket"));
        assert_eq!(stuck.message("m", &[1; 32]), None);
        stuck.record("m", [1; 32], "it is stuck")?;
        stuck.record("n", [2; 32], "so is this")?;
        let again = StuckModels::beside(&folder.join("socket"));
        assert_eq!(again.message("m", &[1; 32]).as_deref(), Some("it is stuck"));
        assert_eq!(again.message("n", &[2; 32]).as_deref(), Some("so is this"));
        assert_eq!(again.message("m", &[3; 32]), None);
        // A damaged file counts as empty.
        fs::write(folder.join(FILE), b"\xff\xff\xff\xff\xff")?;
        assert_eq!(again.message("m", &[1; 32]), None);
        fs::remove_dir_all(&folder)
    }
}
