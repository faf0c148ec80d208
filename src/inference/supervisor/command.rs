//! What should run: the program, as it is on disk, and its arguments, from the settings.

use std::ffi::{CStr, OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pgrx::pg_sys;

use super::SOCKET;
use crate::pg::guc;

const PROGRAM: &str = "susx-server";
const LIBRARY: &str = "libonnxruntime.so";

/// Between two looks at the program's file.
pub const LOOK: Duration = Duration::from_secs(2);

/// The program and its arguments.
pub fn command() -> Vec<OsString> {
    let mut command: Vec<OsString> = vec![program().into(), "--socket".into(), SOCKET.into()];
    if let Some(dir) = guc::model_dir() {
        command.extend(["--model-dir".into(), dir.into()]);
    }
    if let Some(library) = guc::onnxruntime_library().or_else(library_beside_the_extension) {
        command.extend(["--onnxruntime".into(), library.into()]);
    }
    command.extend(guc::server_options().into_iter().map(OsString::from));
    command
}

pub fn program() -> PathBuf {
    guc::server_program().unwrap_or_else(|| {
        // SAFETY: the path of the postgres program, set when it starts and never changed.
        let postgres = unsafe { path(&raw const pg_sys::my_exec_path as *const std::ffi::c_char) };
        postgres.with_file_name(PROGRAM)
    })
}

fn library_beside_the_extension() -> Option<PathBuf> {
    // SAFETY: PostgreSQL's library directory, set when it starts and never changed.
    let directory = unsafe { path(&raw const pg_sys::pkglib_path as *const std::ffi::c_char) };
    Some(directory.join(LIBRARY)).filter(|library| library.exists())
}

/// # Safety
///
/// `text` is a C string.
unsafe fn path(text: *const std::ffi::c_char) -> PathBuf {
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    Path::new(OsStr::from_bytes(text.to_bytes())).to_owned()
}

/// What tells a file from the one that an upgrade puts in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl Version {
    fn of(path: &Path) -> Option<Version> {
        let file = fs::metadata(path).ok()?;
        Some(Version {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
        })
    }
}

/// Looks at the program's file now and then. A file that is gone, or still being written, is not yet
/// another version: what runs goes on running until two looks in a row find the same new one.
#[derive(Debug)]
pub struct OnDisk {
    path: PathBuf,
    settled: Option<Version>,
    seen: Option<Version>,
    next: Instant,
}

impl OnDisk {
    pub fn new(path: &Path) -> Self {
        let version = Version::of(path);
        OnDisk { path: path.to_owned(), settled: version, seen: version, next: Instant::now() + LOOK }
    }

    /// The version that should run.
    pub fn version(&mut self, path: &Path) -> Option<Version> {
        if path != self.path {
            *self = OnDisk::new(path);
        } else if Instant::now() >= self.next {
            let found = Version::of(path);
            if found.is_some() && found == self.seen {
                self.settled = found;
            }
            self.seen = found;
            self.next = Instant::now() + LOOK;
        }
        self.settled
    }
}
