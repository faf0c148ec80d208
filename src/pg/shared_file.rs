//! Files of a database that the sessions of a server share while it runs.
//!
//! They are in a directory among PostgreSQL's temporary files. PostgreSQL removes these when it starts, and
//! `pg_basebackup` and `pg_rewind` leave them out. So a file is never older than the server, and was never written before a
//! crash of the machine.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use pgrx::pg_sys;

use super::regclass::RegClass;

/// Relative to the data directory, where every process of a server runs.
const DIRECTORY: &str = "base/pgsql_tmp/pgsql_tmp_susx";
/// Extension of the names of locks.
const LOCK: &str = "lock";

/// When the server was started, in microseconds.
pub fn server_start() -> i64 {
    // SAFETY: a variable that is set before the first session begins.
    unsafe { pg_sys::PgStartTime }
}

/// The file for a relation of this database.
pub fn path(relation: RegClass) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{}_{}", database(), relation.0.to_u32()))
}

/// Another file for a relation of this database. Its purpose is a word.
pub fn path_for(relation: RegClass, purpose: &str) -> PathBuf {
    path(relation).with_extension(purpose)
}

/// Whether no file survives a crash of the server, after which row versions and positions in the log may come again.
pub fn are_removed_after_a_crash() -> bool {
    // SAFETY: reads a setting of the server.
    unsafe { pg_sys::remove_temp_files_after_crash }
}

/// A file as it is, if it exists. It never changes: a new one takes its place, and those who have mapped the old one keep it.
pub fn map(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: nobody writes to the file after `write` has given it its name, nor truncates it.
    unsafe { Mmap::map(&file) }
}

/// A lock beside a file, which lasts until it is dropped; `None` while another process has it.
pub fn try_lock(path: &Path) -> io::Result<Option<File>> {
    create_directory()?;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.with_extension(LOCK))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Writes a file and puts it into its place, for the owner of the server's files alone.
pub fn write(path: &Path, content: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    create_directory()?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let partial = Partial(path.with_file_name(name));
    // Left by a process that was killed and had the same id.
    let _ = fs::remove_file(&partial.0);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial.0)?;
    content(&mut file)?;
    fs::rename(&partial.0, path)
}

fn create_directory() -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(DIRECTORY)
}

/// A file that is removed unless it has got its name. Also after an ERROR while it was written.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Removes the files of relations and databases that are gone.
pub fn remove_orphans() -> io::Result<()> {
    for entry in fs::read_dir(DIRECTORY)? {
        let path = entry?.path();
        // What another session is writing at the moment has its process id as its extension.
        let is_finished = path.extension().is_none_or(|last| last.to_string_lossy().parse::<u32>().is_err());
        let name = if is_finished { path.file_stem() } else { None };
        let Some((of_database, relation)) = name.and_then(|name| name.to_str()?.split_once('_')) else {
            continue;
        };
        let (Ok(of_database), Ok(relation)) = (of_database.parse::<u32>(), relation.parse::<u32>()) else {
            continue;
        };
        let is_in_use = match of_database == database() {
            true => RegClass(relation.into()).exists(),
            // SAFETY: a look-up that accepts any OID.
            false => unsafe { !pg_sys::get_database_name(of_database.into()).is_null() },
        };
        if !is_in_use {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn database() -> u32 {
    // SAFETY: a variable that a session sets when it begins.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}
