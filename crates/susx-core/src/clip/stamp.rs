//! Whether a model's directory is still what it was, told without reading any file.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::model_dir::check_model_name;

/// Folders inside folders that are looked into: a generator's graphs are one below its directory.
const DEEPEST: u32 = 2;
/// More files than any model has.
const MOST_FILES: usize = 4096;
/// A file that was changed so short a time ago may be changed again without another time of change.
const UNSETTLED: Duration = Duration::from_secs(2);

/// The sizes, numbers and times of change of a directory's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Another one after every change.
    pub digest: [u8; 32],
    /// Whether all of it is old enough for that to be certain.
    pub is_settled: bool,
}

/// The stamp of the directory of the model `name`; `None` if there is none.
pub fn stamp(model_dir: &Path, name: &str) -> Option<Stamp> {
    check_model_name(name).ok()?;
    let dir = model_dir.join(name);
    if !dir.is_dir() {
        return None;
    }
    let mut files = BTreeMap::new();
    collect(&dir, "", 0, &mut files);
    let mut hasher = Sha256::new();
    let mut newest = (0, 0);
    for (name, numbers) in &files {
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        numbers.iter().for_each(|number| hasher.update(number.to_le_bytes()));
        newest = newest.max((numbers[3], numbers[4])).max((numbers[5], numbers[6]));
    }
    let newest = UNIX_EPOCH + Duration::from_secs(u64::try_from(newest.0).unwrap_or(0));
    let is_settled = SystemTime::now().duration_since(newest).is_ok_and(|age| age > UNSETTLED);
    Some(Stamp { digest: hasher.finalize().into(), is_settled })
}

/// Device, number, size, and times of the last changes of content and of anything else.
type Numbers = [i64; 7];

fn collect(dir: &Path, prefix: &str, depth: u32, files: &mut BTreeMap<String, Numbers>) {
    // What cannot be seen is not there.
    if let Ok(metadata) = dir.metadata() {
        files.insert(prefix.to_owned(), numbers(&metadata));
    }
    let Ok(entries) = dir.read_dir() else { return };
    for entry in entries.flatten() {
        if files.len() >= MOST_FILES {
            return;
        }
        let name = format!("{prefix}/{}", entry.file_name().to_string_lossy());
        let Ok(metadata) = entry.path().metadata() else { continue };
        if metadata.is_dir() && depth < DEEPEST {
            collect(&entry.path(), &name, depth + 1, files);
        } else {
            files.insert(name, numbers(&metadata));
        }
    }
}

fn numbers(metadata: &std::fs::Metadata) -> Numbers {
    [
        metadata.dev().cast_signed(),
        metadata.ino().cast_signed(),
        metadata.len().cast_signed(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ]
}
