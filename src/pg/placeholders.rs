//! Restores settings of the administrator that a session overrode before this library was loaded.
//!
//! Until a setting `susx.*` is defined, PostgreSQL keeps a placeholder for it. A connection option or ALTER ROLE can
//! replace its value from the configuration files, regardless of who may change the setting later. When the setting is
//! defined, PostgreSQL refuses a value that the session was not allowed to set, with a WARNING. But by then the
//! administrator's value is lost, and the session would use the built-in default. So the value is read from the files
//! again.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::ptr;

use pgrx::pg_sys;

const PREFIX: &[u8] = b"susx.";
const CHANGED_BY_ALTER_SYSTEM: &CStr = c"postgresql.auto.conf";

/// Names of settings that have a value but are not defined yet.
#[derive(Debug)]
pub struct Placeholders(HashSet<CString>);

impl Placeholders {
    /// Called before the settings are defined.
    pub fn find() -> Self {
        // SAFETY: reads a flag of PostgreSQL. In the postmaster there is no session, so every value is the
        // administrator's.
        if unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
            return Placeholders(HashSet::new());
        }
        Placeholders(susx_settings().map(|setting| name_of(setting).to_owned()).collect())
    }

    /// Called after the settings are defined: sets those whose value was rejected to the value in the configuration
    /// files.
    pub fn restore_refused(self) {
        let refused: HashSet<&CStr> = susx_settings()
            .filter(|&setting| is_refused(setting))
            .map(name_of)
            .filter(|&name| self.0.contains(name))
            .collect();
        if refused.is_empty() {
            return;
        }
        let (mut first, mut last) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the names of the files are C strings. Parsing makes a list, which is freed below. If a file cannot be
        // read or has an error, the list has the settings before that.
        unsafe {
            for file in [pg_sys::ConfigFileName.cast_const(), CHANGED_BY_ALTER_SYSTEM.as_ptr()] {
                let debug = pg_sys::DEBUG1 as i32;
                pg_sys::ParseConfigFile(file, false, ptr::null(), 0, 0, debug, &mut first, &mut last);
            }
            let mut next = first;
            while let Some(found) = next.as_ref() {
                // If a setting occurs more than once, its last value counts.
                let name = CStr::from_ptr(found.name);
                if refused.iter().any(|known| known.to_bytes().eq_ignore_ascii_case(name.to_bytes())) {
                    pg_sys::set_config_option(
                        found.name,
                        found.value,
                        pg_sys::GucContext::PGC_SIGHUP,
                        pg_sys::GucSource::PGC_S_FILE,
                        pg_sys::GucAction::GUC_ACTION_SET,
                        true,
                        pg_sys::WARNING as i32,
                        false,
                    );
                }
                next = found.next;
            }
            pg_sys::FreeConfigVariables(first);
        }
    }
}

/// All settings `susx.*` that PostgreSQL has an entry for.
fn susx_settings() -> impl Iterator<Item = &'static pg_sys::config_generic> {
    all_settings().filter(|setting| name_of(setting).to_bytes().to_ascii_lowercase().starts_with(PREFIX))
}

#[cfg(feature = "pg15")]
fn all_settings() -> impl Iterator<Item = &'static pg_sys::config_generic> {
    // SAFETY: an array of that many pointers, which does not change while it is read.
    unsafe {
        let count = usize::try_from(pg_sys::GetNumConfigOptions()).unwrap_or(0);
        entries(pg_sys::get_guc_variables(), count)
    }
}

#[cfg(not(feature = "pg15"))]
fn all_settings() -> impl Iterator<Item = &'static pg_sys::config_generic> {
    let mut count = 0;
    // SAFETY: a new array of that many pointers.
    unsafe {
        let first = pg_sys::get_guc_variables(&mut count);
        entries(first, usize::try_from(count).unwrap_or(0))
    }
}

/// # Safety
///
/// `first` must point to `count` pointers to entries, which PostgreSQL never frees.
unsafe fn entries(
    first: *mut *mut pg_sys::config_generic,
    count: usize,
) -> impl Iterator<Item = &'static pg_sys::config_generic> {
    // SAFETY: the caller's promise.
    (0..count).filter_map(move |index| unsafe { (*first.add(index)).as_ref() })
}

fn name_of(setting: &pg_sys::config_generic) -> &CStr {
    // SAFETY: every entry has a name, a C string.
    unsafe { CStr::from_ptr(setting.name) }
}

/// Whether the setting is restricted and has its built-in default.
fn is_refused(setting: &pg_sys::config_generic) -> bool {
    setting.context != pg_sys::GucContext::PGC_USERSET && setting.source == pg_sys::GucSource::PGC_S_DEFAULT
}
