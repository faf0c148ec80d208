//! Settings of the administrator's that a session has hidden before this library was loaded.
//!
//! Until then PostgreSQL takes any value for a setting `susx.*`, as an option of the connection or by ALTER ROLE, in
//! place of the one in the configuration files. When the setting is defined it refuses the value, with a WARNING, where
//! the session may not choose it; but the administrator's is gone by then, and the session would go on with the
//! built-in default. So that value is read from the files once more.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::ptr;

use pgrx::pg_sys;

const PREFIX: &[u8] = b"susx.";
const CHANGED_BY_ALTER_SYSTEM: &CStr = c"postgresql.auto.conf";

/// Names of settings that have a value, though they are not defined yet.
#[derive(Debug)]
pub struct Early(HashSet<CString>);

impl Early {
    /// To be called before the settings are defined.
    pub fn look() -> Self {
        // SAFETY: reads a flag of PostgreSQL's. In the postmaster there is no session, and every value is the
        // administrator's.
        if unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
            return Early(HashSet::new());
        }
        Early(ours().map(|setting| name_of(setting).to_owned()).collect())
    }

    /// To be called when they are defined: gives those whose value was refused the administrator's.
    pub fn restore(self) {
        let refused: HashSet<&CStr> = ours()
            .filter(|&setting| is_refused(setting))
            .map(name_of)
            .filter(|&name| self.0.contains(name))
            .collect();
        if refused.is_empty() {
            return;
        }
        let (mut first, mut last) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the files' names are C strings; what is read is a list that is freed below. A file that cannot be
        // read, or holds an error, adds what comes before that.
        unsafe {
            for file in [pg_sys::ConfigFileName.cast_const(), CHANGED_BY_ALTER_SYSTEM.as_ptr()] {
                let debug = pg_sys::DEBUG1 as i32;
                pg_sys::ParseConfigFile(file, false, ptr::null(), 0, 0, debug, &mut first, &mut last);
            }
            let mut next = first;
            while let Some(found) = next.as_ref() {
                // Of several values of a setting the last one counts.
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

/// PostgreSQL's entries of all settings `susx.*` that have one.
fn ours() -> impl Iterator<Item = &'static pg_sys::config_generic> {
    all().filter(|setting| name_of(setting).to_bytes().to_ascii_lowercase().starts_with(PREFIX))
}

#[cfg(feature = "pg15")]
fn all() -> impl Iterator<Item = &'static pg_sys::config_generic> {
    // SAFETY: an array of so many pointers, which this does not change while it is read.
    unsafe {
        let count = usize::try_from(pg_sys::GetNumConfigOptions()).unwrap_or(0);
        entries(pg_sys::get_guc_variables(), count)
    }
}

#[cfg(not(feature = "pg15"))]
fn all() -> impl Iterator<Item = &'static pg_sys::config_generic> {
    let mut count = 0;
    // SAFETY: a new array of so many pointers.
    unsafe {
        let first = pg_sys::get_guc_variables(&mut count);
        entries(first, usize::try_from(count).unwrap_or(0))
    }
}

/// # Safety
///
/// There are so many pointers to entries, which PostgreSQL keeps as long as they are used.
unsafe fn entries(
    first: *mut *mut pg_sys::config_generic,
    count: usize,
) -> impl Iterator<Item = &'static pg_sys::config_generic> {
    // SAFETY: the caller's promise.
    (0..count).filter_map(move |place| unsafe { (*first.add(place)).as_ref() })
}

fn name_of(setting: &pg_sys::config_generic) -> &CStr {
    // SAFETY: every entry has a name, a C string.
    unsafe { CStr::from_ptr(setting.name) }
}

/// Whether it is a setting that not everybody may change, and has the built-in default.
fn is_refused(setting: &pg_sys::config_generic) -> bool {
    setting.context != pg_sys::GucContext::PGC_USERSET && setting.source == pg_sys::GucSource::PGC_S_DEFAULT
}
