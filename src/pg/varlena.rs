//! Values of variable length, as they lie in memory.

use pgrx::pg_sys;

/// What `read` makes of a detoasted value, which is freed after it if it is a copy.
///
/// # Safety
///
/// The datum is one of a type of variable length, and not NULL. `read` keeps nothing of what it sees.
pub unsafe fn with_detoasted<T>(datum: pg_sys::Datum, read: impl FnOnce(*mut pg_sys::varlena) -> T) -> T {
    // SAFETY: as above; detoasting gives the value itself or a palloc'd copy of it.
    unsafe {
        let original: *mut pg_sys::varlena = datum.cast_mut_ptr();
        let varlena = pg_sys::pg_detoast_datum(original);
        let result = read(varlena);
        if varlena != original {
            pg_sys::pfree(varlena.cast());
        }
        result
    }
}

/// Bytes of a value when it is detoasted, without its header; nothing of it is read for that.
///
/// # Safety
///
/// The datum is one of a type of variable length, and not NULL.
pub unsafe fn size(datum: pg_sys::Datum) -> usize {
    // SAFETY: as above.
    unsafe { pg_sys::toast_raw_datum_size(datum) }.saturating_sub(pg_sys::VARHDRSZ)
}
