//! The directory with the socket, and who is in charge of it.
//!
//! It lies in the data directory, where administrators and their scripts may clean up. Whatever becomes of it, the
//! supervisor in charge stays the only one: what it locks is a file that PostgreSQL itself ends without. It puts the
//! directory back, and starts the server anew where sessions cannot reach the old one any more.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pgrx::warning;

use super::{DIRECTORY, NEW_SOCKET, SOCKET};

/// Locked by the supervisor in charge. The postmaster makes it, never replaces it, and ends when it is gone.
const LOCK: &str = "postmaster.pid";
/// Locked by the supervisors of version 0.2.0, one of which may be in charge while a newer library is installed.
const OLD_LOCK: &str = "susx/lock";

/// Held by the supervisor in charge as long as it lives.
#[derive(Debug)]
pub struct Charge {
    _locks: [Option<File>; 2],
}

impl Charge {
    /// `None` if another process is in charge.
    pub fn take() -> io::Result<Option<Charge>> {
        let Some(lock) = locked(File::options().write(true).open(LOCK)?)? else { return Ok(None) };
        // Where there is no such file, or cannot be, nobody holds it.
        let old = match File::options().write(true).open(OLD_LOCK) {
            Ok(file) => match locked(file)? {
                Some(file) => Some(file),
                None => return Ok(None),
            },
            Err(_) => None,
        };
        Ok(Some(Charge { _locks: [Some(lock), old] }))
    }
}

/// The file, if nobody else has it locked.
fn locked(file: File) -> io::Result<Option<File>> {
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Makes the directory, and room in it for a socket. Only while no server runs. What is in the way, and is none of ours,
/// gets another name.
pub fn prepare() -> io::Result<()> {
    if fs::symlink_metadata(DIRECTORY).is_ok() && !is_ours(DIRECTORY) {
        put_aside(DIRECTORY)?;
    }
    match DirBuilder::new().mode(0o700).create(DIRECTORY) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => restore_mode(DIRECTORY, 0o700),
    }
    for path in [SOCKET, NEW_SOCKET] {
        if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
            put_aside(path)?;
        }
    }
    remove_socket();
    Ok(())
}

/// Only while no server runs. What cannot be removed the next server replaces.
pub fn remove_socket() {
    let _ = fs::remove_file(SOCKET);
    let _ = fs::remove_file(NEW_SOCKET);
}

/// Whether it is a directory, or leads to one, that belongs to PostgreSQL's account.
fn is_ours(directory: &str) -> bool {
    fs::metadata(directory).is_ok_and(|found| found.is_dir() && belongs_to_us(&found))
}

fn belongs_to_us(file: &Metadata) -> bool {
    // SAFETY: asks the kernel, and cannot fail.
    file.uid() == unsafe { libc::geteuid() }
}

/// Nobody else gets at what is ours, and we do.
fn restore_mode(path: &str, mode: u32) {
    let is_wrong = |found: &Metadata| belongs_to_us(found) && found.permissions().mode() & 0o777 != mode;
    if fs::metadata(path).is_ok_and(|found| is_wrong(&found)) {
        // What cannot be changed is noticed when sessions do not get through.
        let _ = fs::set_permissions(path, Permissions::from_mode(mode));
    }
}

fn put_aside(path: &str) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_symlink() {
        warning!(
            "susx: removing the symbolic link \"{path}\" in the data directory: it does not lead to a directory of ours"
        );
        return fs::remove_file(path);
    }
    let is_free = |name: &PathBuf| fs::symlink_metadata(name).is_err();
    let name = (1..).map(|number| Path::new(path).with_extension(format!("aside-{number}"))).find(is_free);
    let Some(name) = name else { return Err(ErrorKind::AlreadyExists.into()) };
    warning!(
        "susx: \"{path}\" in the data directory is none of ours, and in the way: it is called \"{}\" from now on",
        name.display()
    );
    fs::rename(path, name)
}

/// The socket that a server has made.
#[derive(Debug, Default)]
pub struct Socket {
    /// What tells it from another one: device, inode, and when it was made.
    seen: Option<(u64, u64, (i64, i64))>,
}

impl Socket {
    /// Whether the socket was there and is not any more, so that no session reaches the server.
    pub fn is_lost(&mut self) -> bool {
        restore_mode(DIRECTORY, 0o700);
        let Ok(found) = fs::symlink_metadata(SOCKET) else { return self.seen.is_some() };
        let found_here = (found.dev(), found.ino(), (found.mtime(), found.mtime_nsec()));
        let is_lost = *self.seen.get_or_insert(found_here) != found_here;
        if !is_lost && found.permissions().mode() & 0o600 != 0o600 {
            restore_mode(SOCKET, 0o600);
        }
        is_lost
    }
}
