//! Names and base types of PostgreSQL's data types.

use std::ffi::CStr;

use pgrx::{IntoDatum, pg_sys};

/// The SQL name of a type, for messages.
pub fn type_name(type_oid: pg_sys::Oid) -> String {
    // SAFETY: returns a palloc'd C string for any OID.
    unsafe { CStr::from_ptr(pg_sys::format_type_be(type_oid)) }.to_string_lossy().into_owned()
}

/// The name of a type with its schema, for SQL text. It does not depend on search_path.
pub fn qualified_type_name(type_oid: pg_sys::Oid) -> String {
    let flags = pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_FORCE_QUALIFY;
    // SAFETY: without FORMAT_TYPE_INVALID_AS_NULL, returns a palloc'd C string for any OID.
    let name = unsafe { CStr::from_ptr(pg_sys::format_type_extended(type_oid, -1, flags as u16)) };
    name.to_string_lossy().into_owned()
}

/// The base type of a domain, through all levels; any other type itself. The type must exist.
pub fn base_type(type_oid: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a look-up, which raises an ERROR if there is no such type.
    unsafe { pg_sys::getBaseType(type_oid) }
}

/// An array of texts as PostgreSQL writes it, such as `{dog,"house cat"}`.
pub fn array_text(elements: Vec<String>) -> String {
    if elements.is_empty() {
        return EMPTY_ARRAY.to_owned();
    }
    let Some(array) = elements.into_datum() else { return EMPTY_ARRAY.to_owned() };
    // SAFETY: the datum is an array. The result is a palloc'd C string.
    unsafe {
        let text = pg_sys::OidOutputFunctionCall(pg_sys::Oid::from(pg_sys::F_ARRAY_OUT), array);
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        pg_sys::pfree(text.cast());
        pg_sys::pfree(array.cast_mut_ptr());
        copy
    }
}

/// An array without elements, as PostgreSQL writes it.
pub const EMPTY_ARRAY: &str = "{}";
