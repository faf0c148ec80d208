//! The command line of the server, which follows from the settings, and changes of the program's file.

use std::ffi::{CStr, OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pgrx::pg_sys;

use super::SOCKET;
use crate::pg::{guc, library_file};

const PROGRAM: &str = "susx-server";
const LIBRARY: &str = "libonnxruntime.so";

/// How often the program's file is checked.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The program and its arguments.
pub fn command() -> Vec<OsString> {
    let mut command: Vec<OsString> = vec![program().into(), "--socket".into(), SOCKET.into()];
    if let Some(dir) = guc::model_dir() {
        command.extend(["--model-dir".into(), dir.into()]);
    }
    if let Some(library) = onnxruntime_library() {
        command.extend(["--onnxruntime".into(), library.into()]);
    }
    command.extend(guc::server_options().into_iter().map(OsString::from));
    command
}

/// Path of ONNX Runtime's library; `None` if the dynamic loader searches for it.
pub fn onnxruntime_library() -> Option<PathBuf> {
    guc::onnxruntime_library().or_else(library_beside_extension)
}

/// Path of the program `susx-server`: next to PostgreSQL's program. Where the extension is installed elsewhere, and found
/// by `dynamic_library_path`, it is in `bin`, next to the directory of the extension's library.
pub fn program() -> PathBuf {
    guc::server_program().unwrap_or_else(|| {
        // SAFETY: PostgreSQL sets this C string, the path of its program, once at its start.
        let postgres = unsafe { path(&raw const pg_sys::my_exec_path as *const std::ffi::c_char) };
        let usual = postgres.with_file_name(PROGRAM);
        let own = || Some(library_directory()?.parent()?.join("bin").join(PROGRAM));
        if usual.exists() { usual } else { own().filter(|own| own.exists()).unwrap_or(usual) }
    })
}

fn library_beside_extension() -> Option<PathBuf> {
    let directory = library_directory()?;
    let library = directory.join(LIBRARY);
    if library.exists() { Some(library) } else { newest_library(&directory) }
}

/// The directory of the extension's library.
fn library_directory() -> Option<PathBuf> {
    library_file::path()?.parent().map(Path::to_owned)
}

/// The library under its full name, such as `libonnxruntime.so.1.24.0`; of several, the one of the latest version.
fn newest_library(directory: &Path) -> Option<PathBuf> {
    let version = |name: OsString| -> Option<Vec<u32>> {
        let version = name.to_str()?.strip_prefix(LIBRARY)?.strip_prefix('.')?;
        version.split('.').map(|number| number.parse().ok()).collect()
    };
    let files = fs::read_dir(directory).ok()?.flatten();
    let versions = files.filter_map(|file| Some((version(file.file_name())?, file.path())));
    versions.max().map(|(_, library)| library)
}

/// # Safety
///
/// `text` is a C string.
unsafe fn path(text: *const std::ffi::c_char) -> PathBuf {
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    Path::new(OsStr::from_bytes(text.to_bytes())).to_owned()
}

/// Identifies the content of a file: an upgrade that replaces the file changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileVersion {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl FileVersion {
    fn of(path: &Path) -> Option<FileVersion> {
        let file = fs::metadata(path).ok()?;
        Some(FileVersion {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
        })
    }
}

/// Watches the program's file for upgrades.
///
/// A new version counts only once two successive checks have found it. So a file that is missing, or is still being
/// written, does not make the supervisor restart the server.
#[derive(Debug)]
pub struct ProgramFile {
    path: PathBuf,
    /// The version that should run.
    current: Option<FileVersion>,
    /// The version that the last check found.
    last_found: Option<FileVersion>,
    next_check: Instant,
}

impl ProgramFile {
    pub fn new(path: &Path) -> Self {
        let version = FileVersion::of(path);
        let next_check = Instant::now() + CHECK_INTERVAL;
        ProgramFile { path: path.to_owned(), current: version, last_found: version, next_check }
    }

    /// The version of the program at `path` that should run; `None` if there is no such file.
    pub fn version(&mut self, path: &Path) -> Option<FileVersion> {
        if path != self.path {
            *self = ProgramFile::new(path);
        } else if Instant::now() >= self.next_check {
            let found = FileVersion::of(path);
            if found.is_some() && found == self.last_found {
                self.current = found;
            }
            self.last_found = found;
            self.next_check = Instant::now() + CHECK_INTERVAL;
        }
        self.current
    }
}
