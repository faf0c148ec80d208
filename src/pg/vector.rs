//! pgvector's `vector`.
//!
//! Its layout (pgvector's `src/vector.h`): a varlena header, `int16 dim`, `int16 unused`, and `dim`
//! float4s, all in the machine's byte order.

use half::f16;
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{Datum, UnboxDatum};
use pgrx::{FromDatum, IntoDatum, impl_sql_translatable, pg_sys};

use super::error::{Error, Result};
use super::extensions::vector_type;
use super::varlena::with_detoasted;

/// Maximum number of dimensions of a `vector`.
pub const MAX_DIMENSIONS: usize = 16_000;

/// Bytes of the varlena header.
const HEADER: usize = pg_sys::VARHDRSZ;
/// Bytes before the first element.
const ELEMENTS: usize = HEADER + 2 * size_of::<i16>();

/// The elements of a `vector`.
#[derive(Clone, Debug, PartialEq)]
pub struct Vector(pub Vec<f32>);

impl_sql_translatable!(Vector, "vector");

impl Vector {
    /// An error if there are no elements or more than pgvector allows.
    pub fn new(elements: Vec<f32>) -> Result<Self> {
        if elements.is_empty() || elements.len() > MAX_DIMENSIONS {
            return Err(Error::argument(format!(
                "a vector must have between 1 and {MAX_DIMENSIONS} dimensions, not {}",
                elements.len()
            )));
        }
        Ok(Vector(elements))
    }

    /// The elements of a `halfvec`, whose layout is the same except for elements of two bytes (pgvector's
    /// `src/halfvec.h`).
    ///
    /// # Safety
    ///
    /// The datum must be a halfvec and not NULL.
    pub(super) unsafe fn of_halfvec(datum: pg_sys::Datum) -> Self {
        // SAFETY: as above. The elements are copied before the memory is freed.
        unsafe {
            with_detoasted(datum, |varlena| {
                let start = varlena.cast::<u8>();
                let dimensions = usize::from(start.add(HEADER).cast::<u16>().read());
                let elements = std::slice::from_raw_parts(start.add(ELEMENTS).cast::<u16>(), dimensions);
                Vector(elements.iter().map(|&bits| f16::from_bits(bits).to_f32()).collect())
            })
        }
    }
}

impl FromDatum for Vector {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        if is_null || datum.is_null() {
            return None;
        }
        // SAFETY: the caller promises that the datum is a vector. Detoasted, it has the layout above and is aligned to
        // 4 bytes. Its elements are copied before the memory is freed.
        let elements = unsafe {
            with_detoasted(datum, |varlena| {
                let start = varlena.cast::<u8>();
                let dimensions = usize::from(start.add(HEADER).cast::<u16>().read());
                std::slice::from_raw_parts(start.add(ELEMENTS).cast::<f32>(), dimensions).to_vec()
            })
        };
        Some(Vector(elements))
    }
}

impl IntoDatum for Vector {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let bytes = ELEMENTS + self.0.len() * size_of::<f32>();
        // SAFETY: palloc0 returns that many zeroed bytes, aligned to 8, or raises an error. The size is far below the
        // maximum of a varlena header.
        unsafe {
            let start = pg_sys::palloc0(bytes).cast::<u8>();
            pgrx::set_varsize_4b(start.cast(), bytes as i32);
            start.add(HEADER).cast::<u16>().write(self.0.len() as u16);
            std::ptr::copy_nonoverlapping(self.0.as_ptr(), start.add(ELEMENTS).cast::<f32>(), self.0.len());
            Some(pg_sys::Datum::from(start))
        }
    }

    fn type_oid() -> pg_sys::Oid {
        vector_type()
    }

    fn is_compatible_with(other: pg_sys::Oid) -> bool {
        other == Self::type_oid()
    }
}

// SAFETY: copies the elements, so nothing borrows from the datum.
unsafe impl UnboxDatum for Vector {
    type As<'src> = Vector;

    unsafe fn unbox<'src>(datum: Datum<'src>) -> Vector
    where
        Self: 'src,
    {
        // SAFETY: the caller promises that this is a vector and not NULL.
        match unsafe { Vector::from_datum(std::mem::transmute::<Datum<'src>, pg_sys::Datum>(datum), false) } {
            Some(vector) => vector,
            None => Vector(Vec::new()),
        }
    }
}

// SAFETY: reads the argument as the type that SQL declares.
unsafe impl<'fcx> ArgAbi<'fcx> for Vector {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as above; PostgreSQL passes no NULL to a parameter that is not an Option.
        unsafe { arg.unbox_arg_using_from_datum().unwrap_or(Vector(Vec::new())) }
    }
}

// SAFETY: returns a palloc'd varlena with the layout of a vector.
unsafe impl BoxRet for Vector {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: as above.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}
