//! `.susx-fetch.json` in a model's directory: where its files came from.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::FetchError;

/// Name of the file.
pub const FILE: &str = ".susx-fetch.json";

/// What was downloaded.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Record {
    /// Address of the hub.
    pub endpoint: String,
    /// Owner and name.
    pub repo: String,
    /// The commit.
    pub revision: String,
    /// As on the command line; `None` for the default.
    pub dtype: Option<String>,
    /// The files; none until all are there.
    pub files: Vec<File>,
}

/// A file that was downloaded.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct File {
    /// Relative to the model's directory.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// In hexadecimal digits.
    pub sha256: String,
}

impl Record {
    /// A download that begins.
    pub fn new(endpoint: &str, repo: &str, revision: &str, dtype: Option<&str>) -> Record {
        let own = str::to_owned;
        Record {
            endpoint: own(endpoint),
            repo: own(repo),
            revision: own(revision),
            dtype: dtype.map(own),
            files: Vec::new(),
        }
    }

    pub fn with_files(&self, files: Vec<File>) -> Record {
        Record { files, ..self.clone() }
    }

    /// Whether both are of the same download, regardless of the files.
    pub fn is_of(&self, other: &Record) -> bool {
        self.with_files(Vec::new()) == other.with_files(Vec::new())
    }

    /// The record in `dir`; `None` if there is none, or it is not understood.
    pub fn read(dir: &Path) -> Result<Option<Record>, FetchError> {
        let path = dir.join(FILE);
        match fs::read(&path) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FetchError::file(&path, error)),
        }
    }

    pub fn write(&self, dir: &Path) -> Result<(), FetchError> {
        let path = dir.join(FILE);
        let failed = |error: io::Error| FetchError::file(&path, error);
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.into()))?;
        fs::write(&path, text + "\n").map_err(failed)
    }

    /// Checks that all files are in `dir` and as they were.
    pub fn verify(&self, dir: &Path) -> Result<(), FetchError> {
        for file in &self.files {
            let path = dir.join(&file.path);
            let found = sha256(&path).map_err(|error| FetchError::file(&path, error))?;
            if found != file.sha256 {
                return Err(FetchError::Exists(dir.to_owned()));
            }
        }
        Ok(())
    }
}

/// The SHA-256 of a file in hexadecimal digits.
pub fn sha256(path: &Path) -> io::Result<String> {
    Ok(hex(hasher(path)?))
}

/// A hasher that has read a file.
pub fn hasher(path: &Path) -> io::Result<Sha256> {
    let mut file = fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher),
            count => hasher.update(&buffer[..count]),
        }
    }
}

pub fn hex(hasher: Sha256) -> String {
    hex::encode(hasher.finalize())
}
