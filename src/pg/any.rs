//! Values of whatever type, passed on as they are.

use std::rc::Rc;

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::{FromDatum, IntoDatum, impl_sql_translatable, pg_sys, varlena};

/// A copy of a value that is not NULL. A value that is stored out of line stays so.
#[derive(Clone, Debug)]
pub struct AnyValue(Content);

#[derive(Clone, Debug)]
enum Content {
    Itself(pg_sys::Datum),
    /// Bytes, and how many of them are the value's. Words, so that they are aligned for any type.
    PointedAt(Rc<[u64]>, usize),
}

impl_sql_translatable!(AnyValue, "anyelement");

impl AnyValue {
    /// # Safety
    ///
    /// The datum is a value of that type and not NULL.
    pub unsafe fn copy(datum: pg_sys::Datum, type_oid: pg_sys::Oid) -> Self {
        let (mut length, mut is_by_value) = (0, false);
        // SAFETY: as above; the type's length says how many bytes there are to read.
        unsafe {
            pg_sys::get_typlenbyval(type_oid, &mut length, &mut is_by_value);
            if is_by_value {
                return AnyValue(Content::Itself(datum));
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
            AnyValue(Content::PointedAt(words.into(), length))
        }
    }

    /// # Safety
    ///
    /// The value is of a type that is represented as `T`'s.
    pub unsafe fn into_value<T: FromDatum>(self) -> Option<T> {
        // SAFETY: as above.
        self.into_datum().and_then(|datum| unsafe { T::from_datum(datum, false) })
    }

    /// Bytes on the heap.
    pub fn size(&self) -> usize {
        match &self.0 {
            Content::Itself(_) => 0,
            Content::PointedAt(words, _) => size_of_val::<[u64]>(words),
        }
    }
}

/// The type that the call gives a polymorphic argument, counted from 0; invalid where it gives none.
///
/// # Safety
///
/// `fcinfo` is that of the running call.
pub unsafe fn argument_type(fcinfo: pg_sys::FunctionCallInfo, place: i32) -> pg_sys::Oid {
    // SAFETY: as above.
    unsafe { pg_sys::get_fn_expr_argtype((*fcinfo).flinfo, place) }
}

impl IntoDatum for AnyValue {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        match self.0 {
            Content::Itself(datum) => Some(datum),
            Content::PointedAt(words, length) => {
                // SAFETY: palloc returns that many bytes or raises an error, aligned for any type.
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
