//! Downloads one file, and checks it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use super::error::FetchError;
use super::hub::{Hub, RemoteFile};
use super::record::{self, Record};
use super::staging::Staging;

/// Attempts without a single new byte before a download fails.
const ATTEMPTS: u32 = 5;
/// Pause before the second attempt; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The progress bar of all files, on standard error if that is a terminal.
pub struct Progress(ProgressBar);

impl Progress {
    pub fn new(bytes: u64) -> Progress {
        let bar = ProgressBar::new(bytes);
        let style = "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left: {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Progress(bar)
    }

    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// Downloads a file into the staging directory, unless it is already there. A part that is already there is not
/// downloaded again.
pub fn file(
    hub: &Hub,
    wanted: &Record,
    file: &RemoteFile,
    staging: &Staging,
    progress: &Progress,
) -> Result<record::File, FetchError> {
    let path = staging.path(&file.path);
    let failed = |error| FetchError::file(&path, error);
    progress.0.set_message(file.path.clone());
    let before = progress.0.position();
    if path.exists() {
        let hasher = record::hasher(&path).map_err(failed)?;
        if let Ok(done) = checked(file, path.metadata().map_err(failed)?.len(), hasher) {
            progress.0.set_position(before + file.size);
            return Ok(done);
        }
        fs::remove_file(&path).map_err(failed)?;
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let part = part_of(&path);
    let was_there = part.metadata().is_ok_and(|part| part.len() > 0);
    let mut result = complete(hub, wanted, file, &part, progress, before);
    if was_there && matches!(result, Err(FetchError::Size { .. } | FetchError::Sha256 { .. })) {
        // The part that was there may be the damaged one.
        result = complete(hub, wanted, file, &part, progress, before);
    }
    let done = result?;
    fs::rename(&part, &path).map_err(failed)?;
    progress.0.set_position(before + file.size);
    Ok(done)
}

/// The path of a file that is not complete.
fn part_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

/// Appends to `part` until it is complete, over several connections if need be.
fn complete(
    hub: &Hub,
    wanted: &Record,
    file: &RemoteFile,
    part: &Path,
    progress: &Progress,
    before: u64,
) -> Result<record::File, FetchError> {
    let failed = |error: io::Error| FetchError::file(part, error);
    let mut out = OpenOptions::new().create(true).append(true).open(part).map_err(failed)?;
    let mut length = out.metadata().map_err(failed)?.len();
    let mut hasher = record::hasher(part).map_err(failed)?;
    if length > file.size {
        (length, hasher) = (restart(&out, part)?, Sha256::new());
    }
    let mut attempt = 1;
    while length < file.size {
        let start = length;
        let mut buffer = vec![0; 1 << 16];
        let mut receive = || -> Result<(), FetchError> {
            let (begin, mut content) = hub.content(&wanted.repo, &wanted.revision, file, length)?;
            if begin != length {
                (length, hasher) = (restart(&out, part)?, Sha256::new());
            }
            loop {
                progress.0.set_position(before + length.min(file.size));
                match content.read(&mut buffer)? {
                    0 => return Ok(()),
                    count => {
                        out.write_all(&buffer[..count]).map_err(failed)?;
                        hasher.update(&buffer[..count]);
                        length += count as u64;
                        if length > file.size {
                            return Ok(());
                        }
                    }
                }
            }
        };
        let received = receive();
        attempt = if length > start { 1 } else { attempt + 1 };
        match received {
            Err(error) if !error.is_temporary() || attempt > ATTEMPTS => return Err(error),
            Ok(()) if attempt > ATTEMPTS => break,
            _ if length < file.size => thread::sleep(FIRST_PAUSE * 2u32.pow(attempt - 1)),
            _ => {}
        }
    }
    out.sync_all().map_err(failed)?;
    let checked = checked(file, length, hasher);
    if checked.is_err() {
        fs::remove_file(part).map_err(failed)?;
    }
    checked
}

/// Empties a file, and returns its length.
fn restart(out: &fs::File, part: &Path) -> Result<u64, FetchError> {
    out.set_len(0).map_err(|error| FetchError::file(part, error))?;
    Ok(0)
}

/// Compares a file with what the hub says of it.
fn checked(file: &RemoteFile, length: u64, hasher: Sha256) -> Result<record::File, FetchError> {
    let path = file.path.clone();
    if length != file.size {
        return Err(FetchError::Size { path, expected: file.size, found: length });
    }
    let found = record::hex(hasher);
    match &file.sha256 {
        Some(expected) if *expected != found => {
            Err(FetchError::Sha256 { path, expected: expected.clone(), found })
        }
        _ => Ok(record::File { path, bytes: length, sha256: found }),
    }
}
