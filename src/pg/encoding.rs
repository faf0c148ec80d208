//! The encoding of the database.
//!
//! Rust's texts are UTF-8, and so are those of the models and of the inference process. In a database with encoding
//! UTF8, PostgreSQL has checked every text. One with SQL_ASCII has checked none, so susx does. Databases with any other
//! encoding are rejected.

use std::ffi::CStr;

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::datum::UnboxDatum;
use pgrx::{Array, FromDatum, IntoDatum, PgSqlErrorCode, pg_sys};

use super::error::{Result, SqlError};
use super::jsonb;
use super::types::base_type;
use super::varlena::with_detoasted;

/// Why a text cannot be used.
#[derive(Debug, thiserror::Error)]
enum EncodingError {
    #[error("susx needs a database with encoding UTF8, not {0}")]
    Database(String),
    #[error("a text is not valid UTF-8: invalid byte 0x{0:02x} at position {1}")]
    Text(u8, usize),
}

impl SqlError for EncodingError {
    fn sqlstate(&self) -> PgSqlErrorCode {
        match self {
            EncodingError::Database(_) => PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            EncodingError::Text(..) => PgSqlErrorCode::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            EncodingError::Database(_) => {
                "Create another database: CREATE DATABASE name TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'; \
                 pg_dump and pg_restore convert existing data."
            }
            EncodingError::Text(..) => {
                "This database has encoding SQL_ASCII, in which PostgreSQL checks no text. Convert the text with \
                 convert_from(…, 'LATIN1'), for example, or move to a database with encoding UTF8."
            }
        }
        .to_owned())
    }
}

/// An error if susx does not work in databases with this encoding.
pub fn check_database() -> Result<()> {
    match encoding() {
        pg_sys::pg_enc::PG_UTF8 | pg_sys::pg_enc::PG_SQL_ASCII => Ok(()),
        _ => {
            // SAFETY: returns a constant C string.
            let name = unsafe { CStr::from_ptr(pg_sys::GetDatabaseEncodingName()) };
            Err(EncodingError::Database(name.to_string_lossy().into_owned()).into())
        }
    }
}

/// Whether PostgreSQL has checked the texts of this database.
pub fn is_checked() -> bool {
    encoding() == pg_sys::pg_enc::PG_UTF8
}

fn encoding() -> pg_sys::pg_enc::Type {
    // SAFETY: reads a variable of this process.
    unsafe { pg_sys::GetDatabaseEncoding() as pg_sys::pg_enc::Type }
}

/// The text of these bytes; an error if they are not UTF-8.
pub fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let place = error.valid_up_to();
        EncodingError::Text(bytes.get(place).copied().unwrap_or(0), place + 1).into()
    })
}

/// An error if an argument of the call is, or holds, a text that is not UTF-8. pgrx would read it all the same.
///
/// # Safety
///
/// `call` must be that of the running function.
pub(super) unsafe fn check_arguments(call: Arg<'_, '_>) -> Result<()> {
    if is_checked() {
        return Ok(());
    }
    // SAFETY: as above. PostgreSQL passes as many arguments as it says, of the types that the function declares.
    unsafe {
        let Some(call) = pg_sys::FunctionCallInfo::unbox_arg_unchecked(call).as_ref() else { return Ok(()) };
        let (mut types, mut count) = (std::ptr::null_mut(), 0);
        pg_sys::get_func_signature((*call.flinfo).fn_oid, &mut types, &mut count);
        let arguments = call.args.as_slice(call.nargs as usize);
        let declared = std::slice::from_raw_parts(types, usize::try_from(count).unwrap_or(0));
        for (argument, &type_oid) in arguments.iter().zip(declared).filter(|(argument, _)| !argument.isnull) {
            check(argument.value, type_oid)?;
        }
    }
    Ok(())
}

/// An error if a value is, or holds, a text that is not UTF-8. Values of other types pass.
///
/// # Safety
///
/// The datum must be a value of that type and not NULL.
pub(super) unsafe fn check(datum: pg_sys::Datum, type_oid: pg_sys::Oid) -> Result<()> {
    if is_checked() {
        return Ok(());
    }
    // SAFETY: as above.
    unsafe {
        match base_type(type_oid) {
            pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID => with_detoasted(datum, |varlena| {
                text(pgrx::varlena::varlena_to_byte_slice(varlena)).map(|_| ())
            }),
            pg_sys::NAMEOID => text(CStr::from_ptr(datum.cast_mut_ptr()).to_bytes()).map(|_| ()),
            pg_sys::JSONBOID => jsonb::with_text(datum, |found| text(found.to_bytes()).map(|_| ())),
            pg_sys::TEXTARRAYOID | pg_sys::VARCHARARRAYOID => {
                let Some(array) = Array::<&[u8]>::from_datum(datum, false) else { return Ok(()) };
                array.iter().flatten().try_for_each(|element| text(element).map(|_| ()))
            }
            _ => Ok(()),
        }
    }
}

/// A text in a row that a trigger gets, which nothing has checked yet.
#[derive(Clone, Debug)]
pub struct UncheckedText(Vec<u8>);

impl UncheckedText {
    /// The text; an error if it is not UTF-8.
    pub fn read(&self) -> Result<&str> {
        text(&self.0)
    }
}

impl FromDatum for UncheckedText {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        // SAFETY: the caller promises a text. It is copied before its memory is freed.
        (!is_null).then(|| unsafe {
            with_detoasted(datum, |varlena| {
                UncheckedText(pgrx::varlena::varlena_to_byte_slice(varlena).to_vec())
            })
        })
    }
}

impl IntoDatum for UncheckedText {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        self.0.into_datum()
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTOID
    }
}

// SAFETY: copies the text, so nothing borrows from the datum.
unsafe impl UnboxDatum for UncheckedText {
    type As<'src> = UncheckedText;

    unsafe fn unbox<'src>(datum: pgrx::datum::Datum<'src>) -> UncheckedText
    where
        Self: 'src,
    {
        // SAFETY: the caller promises that this is a text and not NULL.
        let text = unsafe {
            let datum = std::mem::transmute::<pgrx::datum::Datum<'src>, pg_sys::Datum>(datum);
            UncheckedText::from_datum(datum, false)
        };
        text.unwrap_or(UncheckedText(Vec::new()))
    }
}
