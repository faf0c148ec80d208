//! The hidden directory that a model is downloaded into.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::error::FetchError;
use super::record::Record;

/// Next to the model's directory, so that it can be renamed. The server ignores names with a leading dot.
pub struct Staging {
    dir: PathBuf,
    /// Keeps others out until it is dropped.
    _lock: File,
    lock_path: PathBuf,
}

impl Staging {
    /// The directory for the model `name` of `into`. If it has files of another download, they are removed.
    pub fn open(into: &Path, name: &str, wanted: &Record) -> Result<Staging, FetchError> {
        if !into.is_dir() {
            let reason = format!("--into is {}, which is not a directory", into.display());
            return Err(FetchError::Argument(reason));
        }
        let dir = into.join(format!(".{name}.susx-fetch"));
        let lock_path = into.join(format!(".{name}.susx-fetch.lock"));
        let lock = File::create(&lock_path).map_err(|error| FetchError::file(&lock_path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FetchError::Busy(dir)),
            Err(TryLockError::Error(error)) => return Err(FetchError::file(&lock_path, error)),
        }
        let failed = |error| FetchError::file(&dir, error);
        let has_others = dir.exists() && !Record::read(&dir)?.is_some_and(|found| found.is_of(wanted));
        if has_others {
            fs::remove_dir_all(&dir).map_err(failed)?;
        }
        fs::create_dir_all(&dir).map_err(failed)?;
        wanted.write(&dir)?;
        Ok(Staging { dir, _lock: lock, lock_path })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of one of the model's files.
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// Makes the complete directory visible.
    pub fn publish(self, record: &Record, target: &Path) -> Result<(), FetchError> {
        record.write(&self.dir)?;
        fs::rename(&self.dir, target).map_err(|error| FetchError::file(target, error))?;
        // It is empty, and one that stays does no harm.
        let _ = fs::remove_file(&self.lock_path);
        Ok(())
    }
}
