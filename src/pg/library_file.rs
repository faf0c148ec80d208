//! The file of the extension's library, from which this code was loaded.

use std::ffi::{CStr, OsStr, c_void};
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::OnceLock;

/// What tells a build of the library from others: the inode, the size and the time of its file, when it was loaded.
pub type Build = [i64; 4];

static BUILD: OnceLock<Option<Build>> = OnceLock::new();

/// Takes note of the file, which an upgrade may replace later. Called when the library is loaded.
pub fn register() {
    let of = |file: Metadata| [file.ino() as i64, file.size() as i64, file.mtime(), file.mtime_nsec()];
    BUILD.get_or_init(|| Some(of(path()?.metadata().ok()?)));
}

/// The build that this process has loaded; `None` if its file could not be found.
pub fn build() -> Option<Build> {
    BUILD.get().copied().flatten()
}

/// The path of the file.
pub fn path() -> Option<PathBuf> {
    // SAFETY: all fields may be zero. The address is one in this library.
    let found = unsafe {
        let mut found: libc::Dl_info = std::mem::zeroed();
        (libc::dladdr(path as *const c_void, &raw mut found) != 0).then_some(found)
    }?;
    if found.dli_fname.is_null() {
        return None;
    }
    // SAFETY: the dynamic loader keeps this C string as long as the library is loaded.
    let name = unsafe { CStr::from_ptr(found.dli_fname) };
    Some(OsStr::from_bytes(name.to_bytes()).into())
}
