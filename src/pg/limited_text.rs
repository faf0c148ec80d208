//! A text argument that is read only if it is short enough.

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::{FromDatum, impl_sql_translatable, pg_sys};

use super::error::{Error, Result};
use super::varlena::size;
use crate::inference::client;

/// A `text`, as it is stored: compressed perhaps, or in another place.
#[derive(Clone, Copy, Debug)]
pub struct LimitedText(pg_sys::Datum);

impl_sql_translatable!(LimitedText, "text");

impl LimitedText {
    /// The text; an error if it is longer than `susx.max_text_bytes`, which is found out before it is copied.
    pub fn read(self) -> Result<String> {
        // SAFETY: the datum is a varlena that is not NULL, and this looks at its header.
        let bytes = unsafe { size(self.0) };
        match client::refused_text(bytes) {
            Some(failure) => Err(failure.into()),
            // SAFETY: a text that is not NULL.
            None => unsafe { String::from_datum(self.0, false) }
                .ok_or_else(|| Error::internal("a text was expected")),
        }
    }
}

impl FromDatum for LimitedText {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _type_oid: pg_sys::Oid,
    ) -> Option<Self> {
        (!is_null).then_some(LimitedText(datum))
    }
}

// SAFETY: takes the value as it is; nothing of it is looked at.
unsafe impl<'fcx> ArgAbi<'fcx> for LimitedText {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the caller's promise: it is a value of this type.
        unsafe { arg.unbox_arg_using_from_datum().unwrap_or(LimitedText(pg_sys::Datum::null())) }
    }
}
