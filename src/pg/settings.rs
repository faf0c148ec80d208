//! PostgreSQL's own settings.

use std::ffi::CStr;

use pgrx::pg_sys;

/// The name of the database's encoding.
pub fn database_encoding() -> String {
    // SAFETY: returns a C string of static storage.
    unsafe { CStr::from_ptr(pg_sys::GetDatabaseEncodingName()) }.to_string_lossy().into_owned()
}

/// Whether PostgreSQL loads this library at its start.
pub fn is_preloaded() -> bool {
    // SAFETY: the setting exists in every PostgreSQL; its value is NULL or a C string.
    let value = unsafe {
        let value = pg_sys::GetConfigOption(c"shared_preload_libraries".as_ptr(), true, false);
        if value.is_null() { String::new() } else { CStr::from_ptr(value).to_string_lossy().into_owned() }
    };
    let is_susx = |name: &str| {
        let name = name.trim().trim_matches('"');
        let file = name.rsplit('/').next().unwrap_or(name);
        file.strip_suffix(".so").unwrap_or(file) == "susx"
    };
    value.split(',').any(is_susx)
}
