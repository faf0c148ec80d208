//! PostgreSQL's type `name`, for names of columns and other objects. PostgreSQL truncates it to 63 bytes.

use std::ffi::CStr;

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::{FromDatum, impl_sql_translatable, pg_sys};

/// The text of a `name`.
#[derive(Clone, Debug)]
pub struct Name(pub String);

impl_sql_translatable!(Name, "name");

impl FromDatum for Name {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the caller promises that the datum is a name: a pointer to a C string.
        let text = unsafe { CStr::from_ptr(datum.cast_mut_ptr()) };
        Some(Name(text.to_string_lossy().into_owned()))
    }
}

// SAFETY: reads the argument as the type that SQL declares.
unsafe impl<'fcx> ArgAbi<'fcx> for Name {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as above; PostgreSQL passes no NULL to a parameter that is not an Option.
        unsafe { arg.unbox_arg_using_from_datum().unwrap_or(Name(String::new())) }
    }
}
