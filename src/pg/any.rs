//! Values of any type, passed through unchanged.

use std::rc::Rc;

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::{FromDatum, IntoDatum, impl_sql_translatable, pg_sys, varlena};

/// A copy of a value that is not NULL. The copy of an out-of-line value still refers to its stored data.
#[derive(Clone, Debug)]
pub struct AnyValue(Representation);

#[derive(Clone, Debug)]
enum Representation {
    /// Passed by value.
    ByValue(pg_sys::Datum),
    /// Passed by reference: a copy in words, aligned for any type, and its length in bytes.
    ByReference(Rc<[u64]>, usize),
}

impl_sql_translatable!(AnyValue, "anyelement");

impl AnyValue {
    /// # Safety
    ///
    /// The datum must be a value of that type and not NULL.
    pub unsafe fn copy(datum: pg_sys::Datum, type_oid: pg_sys::Oid) -> Self {
        let (mut length, mut is_by_value) = (0, false);
        // SAFETY: as above. The type's length, or the value's own, is the number of bytes to read.
        unsafe {
            pg_sys::get_typlenbyval(type_oid, &mut length, &mut is_by_value);
            if is_by_value {
                return AnyValue(Representation::ByValue(datum));
            }
            let start: *const u8 = datum.cast_mut_ptr();
            let length = match length {
                // A varlena.
                -1 => varlena::varsize_any(start.cast()),
                // A C string.
                -2 => std::ffi::CStr::from_ptr(start.cast()).count_bytes() + 1,
                length => usize::from(length.unsigned_abs()),
            };
            let mut words = vec![0u64; length.div_ceil(size_of::<u64>())];
            std::ptr::copy_nonoverlapping(start, words.as_mut_ptr().cast(), length);
            AnyValue(Representation::ByReference(words.into(), length))
        }
    }

    /// A bigint.
    pub fn of_bigint(value: i64) -> Self {
        AnyValue(Representation::ByValue(pg_sys::Datum::from(value)))
    }

    /// # Safety
    ///
    /// The value's type must have the same representation as `T`.
    pub unsafe fn into_value<T: FromDatum>(self) -> Option<T> {
        // SAFETY: as above.
        self.into_datum().and_then(|datum| unsafe { T::from_datum(datum, false) })
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        match &self.0 {
            Representation::ByValue(_) => 0,
            Representation::ByReference(words, _) => size_of_val::<[u64]>(words),
        }
    }
}

/// The actual type of a polymorphic argument, counted from 0, in a call; invalid if the call has no type for it.
///
/// # Safety
///
/// `fcinfo` must be that of the running call.
pub unsafe fn argument_type(fcinfo: pg_sys::FunctionCallInfo, index: i32) -> pg_sys::Oid {
    // SAFETY: as above.
    unsafe { pg_sys::get_fn_expr_argtype((*fcinfo).flinfo, index) }
}

impl IntoDatum for AnyValue {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        match self.0 {
            Representation::ByValue(datum) => Some(datum),
            Representation::ByReference(words, length) => {
                // SAFETY: palloc returns that many bytes, aligned for any type, or raises an error.
                let copy = unsafe {
                    let copy = pg_sys::palloc(length.max(1)).cast::<u8>();
                    std::ptr::copy_nonoverlapping(words.as_ptr().cast(), copy, length);
                    copy
                };
                Some(pg_sys::Datum::from(copy))
            }
        }
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::ANYELEMENTOID
    }
}

// SAFETY: returns the value in its type's representation.
unsafe impl BoxRet for AnyValue {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: as above.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}
