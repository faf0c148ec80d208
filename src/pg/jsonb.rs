//! PostgreSQL's `jsonb`, as text.
//!
//! pgrx's own type parses the value with serde_json and panics on failure, but PostgreSQL allows larger numbers and
//! deeper nesting than serde_json.

use std::ffi::{CStr, CString};

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::datum::UnboxDatum;
use pgrx::{FromDatum, IntoDatum, impl_sql_translatable, pg_sys};

use super::error::Result;
use super::varlena::{size, with_detoasted};
use crate::limits;

/// The text of a `jsonb`, or the size in bytes of one that is too large.
#[derive(Clone, Debug)]
pub enum Jsonb {
    Text(String),
    TooLarge(usize),
}

impl_sql_translatable!(Jsonb, "jsonb");

impl Jsonb {
    /// The text; an error if the value is too large.
    pub fn text(self) -> Result<String> {
        match self {
            Jsonb::Text(text) => Ok(text),
            Jsonb::TooLarge(found) => Err(limits::exceeded("the jsonb", limits::JSON_BYTES, found, " bytes")),
        }
    }
}

impl FromDatum for Jsonb {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        if is_null || datum.is_null() {
            return None;
        }
        // SAFETY: the caller promises that the datum is a jsonb. Detoasted, it has the layout of Jsonb. The text is
        // copied before the memory is freed.
        unsafe {
            let size = size(datum);
            if size > limits::JSON_BYTES {
                return Some(Jsonb::TooLarge(size));
            }
            Some(Jsonb::Text(with_text(datum, |text| text.to_string_lossy().into_owned())))
        }
    }
}

impl IntoDatum for Jsonb {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let text = CString::new(self.text().ok()?).ok()?;
        // SAFETY: the function takes a C string and returns a jsonb, or raises an ERROR.
        unsafe { pgrx::direct_function_call(pg_sys::jsonb_in, &[Some(pg_sys::Datum::from(text.as_ptr()))]) }
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

// SAFETY: copies the text, so nothing borrows from the datum.
unsafe impl UnboxDatum for Jsonb {
    type As<'src> = Jsonb;

    unsafe fn unbox<'src>(datum: pgrx::datum::Datum<'src>) -> Jsonb
    where
        Self: 'src,
    {
        // SAFETY: the caller promises that this is a jsonb and not NULL.
        let found = unsafe {
            let datum = std::mem::transmute::<pgrx::datum::Datum<'src>, pg_sys::Datum>(datum);
            Jsonb::from_datum(datum, false)
        };
        found.unwrap_or(Jsonb::Text(String::new()))
    }
}

/// Calls `read` with the text of a jsonb.
///
/// # Safety
///
/// The datum must be a jsonb and not NULL.
pub(super) unsafe fn with_text<T>(datum: pg_sys::Datum, read: impl FnOnce(&CStr) -> T) -> T {
    // SAFETY: as above.
    unsafe {
        with_detoasted(datum, |varlena| {
            let length = pgrx::varsize_any_exhdr(varlena) as std::ffi::c_int;
            let root = &raw mut (*varlena.cast::<pg_sys::Jsonb>()).root;
            let text = pg_sys::JsonbToCString(std::ptr::null_mut(), root, length);
            let result = read(CStr::from_ptr(text));
            pg_sys::pfree(text.cast());
            result
        })
    }
}

// SAFETY: reads the argument as the type that SQL declares.
unsafe impl<'fcx> ArgAbi<'fcx> for Jsonb {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as above; PostgreSQL passes no NULL to a parameter that is not an Option.
        unsafe { arg.unbox_arg_using_from_datum().unwrap_or(Jsonb::Text(String::new())) }
    }
}
