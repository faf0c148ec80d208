//! Image files, in values of type bytea.
//!
//! A file that is too large is never read. Its size is in the value's header, even if the value is compressed or stored
//! out of line.

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::datum::{Datum, UnboxDatum};
use pgrx::{FromDatum, IntoDatum, impl_sql_translatable, pg_sys, varlena};
use susx_server::protocol::{self, Failure};

use super::any::AnyValue;
use super::error::Result;
use super::guc;
use super::varlena::{size, with_detoasted};

/// An image file.
#[derive(Clone, Debug)]
pub enum Image {
    File(Vec<u8>),
    /// The size in bytes of a file larger than `susx.max_image_bytes`.
    TooLarge(usize),
}

impl_sql_translatable!(Image, "bytea");

impl Image {
    /// Size in memory, in bytes.
    pub fn size(&self) -> usize {
        match self {
            Image::File(file) => file.len(),
            Image::TooLarge(_) => 0,
        }
    }

    /// The file; an error if it is too large.
    pub fn file(&self) -> Result<&[u8]> {
        match self {
            Image::File(file) => Ok(file),
            Image::TooLarge(found) => Err(too_large(*found).into()),
        }
    }
}

/// An image file as it is stored: a large one is not read before it is needed. It must be read by the statement that has
/// found it, whose snapshot keeps the stored data.
#[derive(Clone, Debug)]
pub struct StoredImage(AnyValue);

impl StoredImage {
    /// # Safety
    ///
    /// The datum must be a bytea and not NULL.
    pub unsafe fn copy(datum: pg_sys::Datum) -> Self {
        // SAFETY: as above.
        StoredImage(unsafe { AnyValue::copy(datum, pg_sys::BYTEAOID) })
    }

    /// Size in memory, in bytes: a few for a file that is stored out of line.
    pub fn size(&self) -> usize {
        self.0.size()
    }

    /// Reads the file.
    pub fn read(&self) -> Image {
        // SAFETY: the value is a bytea.
        let image = unsafe { self.0.clone().into_value() };
        image.unwrap_or(Image::File(Vec::new()))
    }
}

/// The failure of an image file of that many bytes, if it is too large: the same that the inference process reports.
pub fn image_too_large(bytes: usize) -> Option<Failure> {
    (bytes > limit()).then(|| too_large(bytes))
}

/// In bytes.
fn limit() -> usize {
    guc::max_image_bytes()
}

fn too_large(found: usize) -> Failure {
    protocol::too_large("image", found, limit(), "susx.max_image_bytes")
}

impl FromDatum for Image {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        if is_null || datum.is_null() {
            return None;
        }
        // SAFETY: the caller promises that the datum is a bytea. Its bytes are copied before they are freed.
        unsafe {
            let size = size(datum);
            if size > limit() {
                return Some(Image::TooLarge(size));
            }
            Some(Image::File(with_detoasted(datum, |bytes| varlena::varlena_to_byte_slice(bytes).to_vec())))
        }
    }
}

impl IntoDatum for Image {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        match self {
            Image::File(file) => file.into_datum(),
            Image::TooLarge(_) => None,
        }
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::BYTEAOID
    }
}

// SAFETY: copies the bytes, so nothing borrows from the datum.
unsafe impl UnboxDatum for Image {
    type As<'src> = Image;

    unsafe fn unbox<'src>(datum: Datum<'src>) -> Image
    where
        Self: 'src,
    {
        // SAFETY: the caller promises that this is a bytea and not NULL.
        let image =
            unsafe { Image::from_datum(std::mem::transmute::<Datum<'src>, pg_sys::Datum>(datum), false) };
        image.unwrap_or(Image::File(Vec::new()))
    }
}

// SAFETY: reads the argument as the type that SQL declares.
unsafe impl<'fcx> ArgAbi<'fcx> for Image {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as above; PostgreSQL passes no NULL to a parameter that is not an Option.
        unsafe { arg.unbox_arg_using_from_datum().unwrap_or(Image::File(Vec::new())) }
    }
}
