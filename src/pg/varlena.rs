//! Values of variable length in memory.

use pgrx::pg_sys;

/// Detoasts a value, calls `read` with it, and frees it afterwards if it is a copy.
///
/// # Safety
///
/// The datum must be of a type of variable length and not NULL. `read` must not keep the pointer.
pub unsafe fn with_detoasted<T>(datum: pg_sys::Datum, read: impl FnOnce(*mut pg_sys::varlena) -> T) -> T {
    // SAFETY: as above. Detoasting returns the value itself or a palloc'd copy.
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

/// Size of a value after detoasting, in bytes, without its header. Only the header of the stored value is read.
///
/// # Safety
///
/// The datum must be of a type of variable length and not NULL.
pub unsafe fn size(datum: pg_sys::Datum) -> usize {
    // SAFETY: as above.
    unsafe { pg_sys::toast_raw_datum_size(datum) }.saturating_sub(pg_sys::VARHDRSZ)
}
