//! A row of a query's result, and how its values become Rust's.

use std::ffi::CStr;

use pgrx::{FromDatum, IntoDatum, pg_sys};

use crate::limits;
use crate::pg::any::AnyValue;
use crate::pg::column_error::ColumnError;
use crate::pg::encoding;
use crate::pg::error::Result;
use crate::pg::extensions::{halfvec_type, vector_type};
use crate::pg::image::{StoredImage, image_too_large};
use crate::pg::types::{base_type, type_name};
use crate::pg::varlena::size;
use crate::pg::vector::Vector;

/// One row of a query's result. It is valid as long as the result is open.
#[derive(Debug)]
pub struct Row {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
}

impl Row {
    /// Both belong to the same result, which stays open as long as the row is used.
    pub(super) fn new(tuple: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> Self {
        Row { tuple, descriptor }
    }

    /// The value of a column, counted from 1.
    pub fn get<T: FromDatum + IntoDatum>(&self, column: i32) -> Result<Option<T>> {
        // SAFETY: tuple and descriptor belong to the same result, which is still open; the type is
        // checked against the column's, a domain counting as its base type.
        unsafe {
            let found = pg_sys::SPI_gettypeid(self.descriptor, column);
            if !T::is_compatible_with(found) && !T::is_compatible_with(base_type(found)) {
                return Err(ColumnError::Type {
                    column: self.name(column),
                    found: type_name(found),
                    expected: type_name(T::type_oid()),
                }
                .into());
            }
            let mut is_null = false;
            let datum = pg_sys::SPI_getbinval(self.tuple, self.descriptor, column, &mut is_null);
            if !is_null {
                encoding::check(datum, found)?;
            }
            Ok(T::from_datum(datum, is_null))
        }
    }

    /// The value of a column of type vector or halfvec, counted from 1.
    pub fn vector(&self, column: i32) -> Result<Option<Vector>> {
        // SAFETY: tuple and descriptor belong to the same result, which is still open; the column's type is checked.
        unsafe {
            let found = pg_sys::SPI_gettypeid(self.descriptor, column);
            let base = if found == vector_type() { found } else { base_type(found) };
            if base == vector_type() || base != halfvec_type() {
                return self.get(column);
            }
            Ok(self.datum(column).map(|datum| Vector::of_halfvec(datum)))
        }
    }

    /// Like [`vector`](Self::vector), for a column that has a value.
    pub fn required_vector(&self, column: i32) -> Result<Vector> {
        self.vector(column)?.ok_or_else(|| ColumnError::Null(self.name(column)).into())
    }

    /// The name of a column.
    fn name(&self, column: i32) -> String {
        // SAFETY: the result is NULL or a palloc'd C string.
        unsafe {
            let name = pg_sys::SPI_fname(self.descriptor, column);
            if name.is_null() {
                column.to_string()
            } else {
                CStr::from_ptr(name).to_string_lossy().into_owned()
            }
        }
    }

    /// Like [`get`](Self::get), for a column that is declared NOT NULL.
    pub fn required<T: FromDatum + IntoDatum>(&self, column: i32) -> Result<T> {
        self.get(column)?.ok_or_else(|| ColumnError::Null(self.name(column)).into())
    }

    /// Whether the value of a column is NULL.
    pub fn is_null(&self, column: i32) -> bool {
        self.datum(column).is_none()
    }

    /// Bytes of a column's value, found without reading the value; 0 for NULL.
    pub fn size(&self, column: i32) -> usize {
        let Some(datum) = self.datum(column) else { return 0 };
        // SAFETY: a column of the descriptor; only a value of variable length has a header.
        unsafe {
            match pg_sys::get_typlen(pg_sys::SPI_gettypeid(self.descriptor, column)) {
                -1 => size(datum),
                length => usize::try_from(length).unwrap_or(0),
            }
        }
    }

    /// The value of a column of type text, or an error if it is longer than [`limits::TEXT_BYTES`]. `what` names it in
    /// the error.
    pub fn short_text(&self, column: i32, what: &str) -> Result<Option<String>> {
        limits::check_bytes(what, limits::TEXT_BYTES, self.size(column))?;
        self.get(column)
    }

    /// Like [`short_text`](Self::short_text), for a column that is declared NOT NULL.
    pub fn required_text(&self, column: i32, what: &str) -> Result<String> {
        self.short_text(column, what)?.ok_or_else(|| ColumnError::Null(self.name(column)).into())
    }

    /// Whether two columns of type bytea hold the same bytes, or both NULL. A large value that was not changed is not
    /// read: both columns then point to the same place. Values above the limit of images count as different.
    pub fn has_same_bytes(&self, column: i32, other: i32) -> Result<bool> {
        let (one, two) = match (self.datum(column), self.datum(other)) {
            (Some(one), Some(two)) => (one, two),
            (one, two) => return Ok(one.is_none() && two.is_none()),
        };
        // SAFETY: both are values of variable length in a tuple that is still there.
        unsafe {
            let [one, two] = [one, two].map(|datum| datum.cast_mut_ptr::<pg_sys::varlena>());
            if is_same_place(one, two) {
                return Ok(true);
            }
            if size(one.into()) != size(two.into()) || image_too_large(size(one.into())).is_some() {
                return Ok(false);
            }
        }
        Ok(self.get::<&[u8]>(column)? == self.get::<&[u8]>(other)?)
    }

    /// Whether two columns of vectors hold the same numbers, or both NULL. A long vector that was not changed is not read.
    pub fn has_same_vector(&self, column: i32, other: i32) -> Result<bool> {
        let (one, two) = match (self.datum(column), self.datum(other)) {
            (Some(one), Some(two)) => (one, two),
            (one, two) => return Ok(one.is_none() && two.is_none()),
        };
        // SAFETY: both are values of variable length in a tuple that is still there.
        if unsafe { is_same_place(one.cast_mut_ptr(), two.cast_mut_ptr()) } {
            return Ok(true);
        }
        Ok(self.vector(column)? == self.vector(other)?)
    }

    /// The value of a column as it lies in the tuple; `None` for NULL.
    fn datum(&self, column: i32) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: tuple and descriptor belong to the same result, which is still open.
        let datum = unsafe { pg_sys::SPI_getbinval(self.tuple, self.descriptor, column, &mut is_null) };
        (!is_null).then_some(datum)
    }

    /// The value of a column, whose type is `type_oid`.
    pub fn any(&self, column: i32, type_oid: pg_sys::Oid) -> Option<AnyValue> {
        let mut is_null = false;
        // SAFETY: as above.
        unsafe {
            let datum = pg_sys::SPI_getbinval(self.tuple, self.descriptor, column, &mut is_null);
            (!is_null).then(|| AnyValue::copy(datum, type_oid))
        }
    }

    /// The image file in a column, without reading it; `None` for NULL. An error if the column is not of type bytea.
    pub fn stored_image(&self, column: i32) -> Result<Option<StoredImage>> {
        // SAFETY: a column of the descriptor.
        let found = unsafe { pg_sys::SPI_gettypeid(self.descriptor, column) };
        if base_type(found) != pg_sys::BYTEAOID {
            let (column, found, expected) = (self.name(column), type_name(found), "bytea".to_owned());
            return Err(ColumnError::Type { column, found, expected }.into());
        }
        // SAFETY: the value is a bytea and not NULL.
        Ok(self.datum(column).map(|datum| unsafe { StoredImage::copy(datum) }))
    }

    /// The value of a column of any type as text, by the type's output function.
    pub fn text(&self, column: i32) -> Result<Option<String>> {
        // SAFETY: as above; the result is NULL or a palloc'd C string.
        unsafe {
            let text = pg_sys::SPI_getvalue(self.tuple, self.descriptor, column);
            if text.is_null() {
                return Ok(None);
            }
            Ok(Some(encoding::text(CStr::from_ptr(text).to_bytes())?.to_owned()))
        }
    }
}

/// Whether two values that are stored apart from their rows are stored in the same place.
///
/// # Safety
///
/// Both must be values of variable length.
unsafe fn is_same_place(one: *mut pg_sys::varlena, two: *mut pg_sys::varlena) -> bool {
    // SAFETY: as above. A value with such a header is a pointer of the size that its tag tells.
    unsafe {
        let pointer = |it| std::slice::from_raw_parts(it as *const u8, pgrx::varsize_external(it));
        pgrx::varatt_is_1b_e(one) && pgrx::varatt_is_1b_e(two) && pointer(one) == pointer(two)
    }
}
