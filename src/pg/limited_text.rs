//! A text argument that is read only if it is short enough.

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::{FromDatum, impl_sql_translatable, pg_sys};
use susx_server::protocol::{self, Failure};

use super::error::{Error, Result};
use super::guc;
use super::varlena::size;

/// A `text` as it is stored, possibly compressed or out of line.
#[derive(Clone, Copy, Debug)]
pub struct LimitedText(pg_sys::Datum);

impl_sql_translatable!(LimitedText, "text");

impl LimitedText {
    /// The text; an error if it is longer than `susx.max_text_bytes`. The length is checked before anything is copied.
    pub fn read(self) -> Result<String> {
        // SAFETY: the datum is a varlena and not NULL; only its header is read.
        let bytes = unsafe { size(self.0) };
        match text_too_long(bytes) {
            Some(failure) => Err(failure.into()),
            // SAFETY: a text that is not NULL.
            None => unsafe { String::from_datum(self.0, false) }
                .ok_or_else(|| Error::internal("a text was expected")),
        }
    }
}

/// The failure of a text of that many bytes, if it is too long: the same that the inference process reports.
pub fn text_too_long(bytes: usize) -> Option<Failure> {
    let limit = guc::max_text_bytes();
    (bytes > limit).then(|| protocol::too_large("text", bytes, limit, "susx.max_text_bytes"))
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

// SAFETY: stores the datum without reading the value.
unsafe impl<'fcx> ArgAbi<'fcx> for LimitedText {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the caller's promise: it is a value of this type.
        unsafe { arg.unbox_arg_using_from_datum().unwrap_or(LimitedText(pg_sys::Datum::null())) }
    }
}
