//! Detects changes in a model's directory without reading any file.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::model_dir::check_model_name;

/// Levels of subfolders to include: a model's graphs lie in the directory or one level below.
const MAX_DEPTH: u32 = 2;
/// Limit of files: more than any model has.
const MAX_FILES: usize = 4096;
/// A file changed more recently than this may change again without getting a new time stamp.
const UNSETTLED: Duration = Duration::from_secs(2);

/// A digest of the sizes, inode numbers and times of a directory's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Differs after every change.
    pub digest: [u8; 32],
    /// Whether all files are old enough for that to be certain.
    pub is_settled: bool,
}

/// The stamp of the directory of the model `name`; `None` if there is no such directory.
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

/// Device, inode number, size, mtime and ctime (seconds and nanoseconds each).
type Numbers = [i64; 7];

fn collect(dir: &Path, prefix: &str, depth: u32, files: &mut BTreeMap<String, Numbers>) {
    // What cannot be inspected counts as missing.
    if let Ok(metadata) = dir.metadata() {
        files.insert(prefix.to_owned(), numbers(&metadata));
    }
    let Ok(entries) = dir.read_dir() else { return };
    for entry in entries.flatten() {
        if files.len() >= MAX_FILES {
            return;
        }
        let name = format!("{prefix}/{}", entry.file_name().to_string_lossy());
        let Ok(metadata) = entry.path().metadata() else { continue };
        if metadata.is_dir() && depth < MAX_DEPTH {
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
