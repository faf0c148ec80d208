//! PostgreSQL's cache of catalog rows, read without a query.

use pgrx::pg_sys;

/// What `read` returns for the catalog row with that OID; `None` if there is no such row.
///
/// # Safety
///
/// The cache's key is an OID, and `Form` is the struct of the catalog's columns of fixed length.
pub(super) unsafe fn read<Form, T>(
    cache: pg_sys::SysCacheIdentifier::Type,
    oid: pg_sys::Oid,
    read: impl FnOnce(&Form) -> T,
) -> Option<T> {
    // SAFETY: as above; the row is valid until it is released.
    unsafe {
        let row = pg_sys::SearchSysCache1(cache as std::ffi::c_int, oid.into());
        if row.is_null() {
            return None;
        }
        let found = read(&*pg_sys::GETSTRUCT(row).cast::<Form>());
        pg_sys::ReleaseSysCache(row);
        Some(found)
    }
}
