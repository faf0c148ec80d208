//! The models that a process was stuck in, as the next one knows them.
//!
//! They are in a file beside the socket. The supervisor removes it when PostgreSQL is started or reloaded; a model
//! whose files have changed since is tried again.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::protocol;

/// Name of the file.
pub const FILE: &str = "stuck";
/// More models than anybody has; the oldest are forgotten.
const MOST: usize = 1000;

/// The file.
#[derive(Clone, Debug)]
pub struct StuckModels {
    path: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    model: String,
    /// Of the model's files.
    stamp: [u8; 32],
    message: String,
}

impl StuckModels {
    /// Those of the server with this socket.
    pub fn beside(socket: &Path) -> Self {
        StuckModels { path: socket.with_file_name(FILE) }
    }

    /// What is to be said of a model that a process was stuck in, if its files are the same as then.
    pub fn recall(&self, model: &str, stamp: &[u8; 32]) -> Option<String> {
        let entry = |entry: &Entry| entry.model == model && entry.stamp == *stamp;
        self.read().into_iter().find(entry).map(|entry| entry.message)
    }

    /// Remembers a model.
    pub fn remember(&self, model: &str, stamp: [u8; 32], message: &str) -> io::Result<()> {
        let mut entries = self.read();
        entries.retain(|entry| entry.model != model);
        entries.push(Entry { model: model.to_owned(), stamp, message: message.to_owned() });
        entries.drain(..entries.len().saturating_sub(MOST));
        let bytes = protocol::encode(&entries).map_err(io::Error::other)?;
        // Whoever reads it meanwhile sees the old one.
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
    fn a_model_is_known_until_its_files_change() -> io::Result<()> {
        let folder = std::env::temp_dir().join(format!("susx-stuck-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let stuck = StuckModels::beside(&folder.join("socket"));
        assert_eq!(stuck.recall("m", &[1; 32]), None);
        stuck.remember("m", [1; 32], "it is stuck")?;
        stuck.remember("n", [2; 32], "so is this")?;
        let again = StuckModels::beside(&folder.join("socket"));
        assert_eq!(again.recall("m", &[1; 32]).as_deref(), Some("it is stuck"));
        assert_eq!(again.recall("n", &[2; 32]).as_deref(), Some("so is this"));
        assert_eq!(again.recall("m", &[3; 32]), None);
        // What is no such file is nothing.
        fs::write(folder.join(FILE), b"\xff\xff\xff\xff\xff")?;
        assert_eq!(again.recall("m", &[1; 32]), None);
        fs::remove_dir_all(&folder)
    }
}
