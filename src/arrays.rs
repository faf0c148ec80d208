//! Arrays that a caller passes.
//!
//! They stay in PostgreSQL's form until their length is checked: an array of a hundred million NULLs is small, but a
//! list of its elements is not.

use pgrx::datum::UnboxDatum;
use pgrx::prelude::*;

use crate::limits;
use crate::pg::error::{Error, Result};

/// The elements of an array argument with any number of dimensions; none for NULL. An error if there are too many.
pub fn elements<'a, T: UnboxDatum>(
    array: Option<&'a Array<'_, T>>,
    name: &str,
) -> Result<Vec<Option<T::As<'a>>>> {
    let Some(array) = array else { return Ok(Vec::new()) };
    limits::check_elements(name, array.len())?;
    let interruptible = |element| {
        check_for_interrupts!();
        element
    };
    Ok(array.iter().map(interruptible).collect())
}

/// The elements of an array argument; an error if there are none, or if one is NULL.
pub fn required<'a, T: UnboxDatum>(
    array: Option<&'a Array<'_, T>>,
    name: &'static str,
) -> Result<Vec<T::As<'a>>> {
    let elements = elements(Some(Error::required(array, name)?), name)?;
    if elements.is_empty() {
        return Err(Error::argument(format!("{name} must not be empty")));
    }
    let present = |(ord, element): (usize, Option<_>)| {
        element.ok_or_else(|| Error::argument(format!("element {ord} of {name} is NULL")))
    };
    (1..).zip(elements).map(present).collect()
}
