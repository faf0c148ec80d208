//! The directory of the socket, and the lock that makes a supervisor the only one.
//!
//! The directory is inside the data directory, where administrators or their scripts may delete or change it. The
//! supervisor then restores it, and restarts the server if sessions can no longer reach it. There is only ever one
//! supervisor, because the lock is on a file without which PostgreSQL itself shuts down.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pgrx::warning;

use super::{DIRECTORY, NEW_SOCKET, SOCKET};

/// Locked by the supervisor. The postmaster creates this file, never replaces it, and shuts down if it is missing.
const LOCK: &str = "postmaster.pid";
/// Locked by supervisors of version 0.2.0. One may still be running when a newer library is installed.
const OLD_LOCK: &str = "susx/lock";

/// Held by the one supervisor as long as it runs.
#[derive(Debug)]
pub struct SupervisorLock {
    _locks: [Option<File>; 2],
}

impl SupervisorLock {
    /// `None` if another supervisor is running.
    pub fn take() -> io::Result<Option<SupervisorLock>> {
        let Some(lock) = locked(File::options().write(true).open(LOCK)?)? else { return Ok(None) };
        // If the file cannot be opened, there is no such supervisor.
        let old = match File::options().write(true).open(OLD_LOCK) {
            Ok(file) => match locked(file)? {
                Some(file) => Some(file),
                None => return Ok(None),
            },
            Err(_) => None,
        };
        Ok(Some(SupervisorLock { _locks: [Some(lock), old] }))
    }
}

/// Locks the file; `None` if another process has locked it.
fn locked(file: File) -> io::Result<Option<File>> {
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Creates the directory and makes room for a socket in it. Anything else of these names is renamed. Only while no
/// server runs.
pub fn prepare() -> io::Result<()> {
    if fs::symlink_metadata(DIRECTORY).is_ok() && !is_ours(DIRECTORY) {
        move_aside(DIRECTORY)?;
    }
    match DirBuilder::new().mode(0o700).create(DIRECTORY) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => restore_mode(DIRECTORY, 0o700),
    }
    for path in [SOCKET, NEW_SOCKET] {
        if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
            move_aside(path)?;
        }
    }
    remove_socket();
    Ok(())
}

/// Removes the socket, if possible: the next server replaces what remains. Only while no server runs.
pub fn remove_socket() {
    let _ = fs::remove_file(SOCKET);
    let _ = fs::remove_file(NEW_SOCKET);
}

/// Whether the path is a directory, or a link to one, that belongs to PostgreSQL's operating system user.
fn is_ours(directory: &str) -> bool {
    fs::metadata(directory).is_ok_and(|found| found.is_dir() && belongs_to_us(&found))
}

fn belongs_to_us(file: &Metadata) -> bool {
    // SAFETY: a system call that cannot fail.
    file.uid() == unsafe { libc::geteuid() }
}

/// Restores the access mode of a file or directory of ours.
fn restore_mode(path: &str, mode: u32) {
    let is_wrong = |found: &Metadata| belongs_to_us(found) && found.permissions().mode() & 0o777 != mode;
    if fs::metadata(path).is_ok_and(|found| is_wrong(&found)) {
        // If this fails, sessions report that they cannot connect.
        let _ = fs::set_permissions(path, Permissions::from_mode(mode));
    }
}

fn move_aside(path: &str) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_symlink() {
        warning!(
            "susx: removing the symbolic link \"{path}\" in the data directory: it does not lead to a directory of susx"
        );
        return fs::remove_file(path);
    }
    let is_free = |name: &PathBuf| fs::symlink_metadata(name).is_err();
    let name = (1..).map(|number| Path::new(path).with_extension(format!("aside-{number}"))).find(is_free);
    let Some(name) = name else { return Err(ErrorKind::AlreadyExists.into()) };
    warning!(
        "susx: renaming \"{path}\" in the data directory to \"{}\", because susx needs this name and it is not a \
         directory of susx",
        name.display()
    );
    fs::rename(path, name)
}

/// Watches the socket of a running server.
#[derive(Debug, Default)]
pub struct SocketWatch {
    /// Identity of the server's socket: device, inode, and time of its creation.
    identity: Option<(u64, u64, (i64, i64))>,
}

impl SocketWatch {
    /// Whether the server's socket has disappeared or was replaced, so that sessions cannot reach the server.
    pub fn is_lost(&mut self) -> bool {
        restore_mode(DIRECTORY, 0o700);
        let Ok(found) = fs::symlink_metadata(SOCKET) else { return self.identity.is_some() };
        let identity = (found.dev(), found.ino(), (found.mtime(), found.mtime_nsec()));
        let is_lost = *self.identity.get_or_insert(identity) != identity;
        if !is_lost && found.permissions().mode() & 0o600 != 0o600 {
            restore_mode(SOCKET, 0o600);
        }
        is_lost
    }
}
