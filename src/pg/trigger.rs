//! Functions that PostgreSQL calls as triggers.
//!
//! pgrx has an attribute for them, but what goes wrong in one becomes a panic without its SQLSTATE, and so
//! does a call that no trigger makes. Here they are functions that take a [`Fired`] and return a [`NewRow`].

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{AllocatedByRust, PgSqlErrorCode, PgTrigger, pg_sys};

use super::error::{Result, SqlError};

/// A trigger function was called directly.
#[derive(Debug, thiserror::Error)]
#[error("trigger function was not called by a trigger")]
struct NotFired;

impl SqlError for NotFired {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED
    }
}

/// The call of a trigger; no argument of SQL.
#[derive(Debug)]
pub struct Fired(pg_sys::FunctionCallInfo);

impl Fired {
    /// What the trigger is fired for; an error if it was not a trigger that called.
    pub fn trigger(&self) -> Result<PgTrigger<'_>> {
        // SAFETY: it is the running call's, and so are the data of the trigger.
        let trigger = unsafe { self.0.as_ref().map(|call| PgTrigger::from_fcinfo(call)) };
        trigger.and_then(|trigger| trigger.ok()).ok_or_else(|| NotFired.into())
    }
}

// SAFETY: takes no argument of the call.
unsafe impl<'fcx> ArgAbi<'fcx> for Fired {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as here.
        Fired(unsafe { pg_sys::FunctionCallInfo::unbox_arg_unchecked(arg) })
    }

    fn is_virtual_arg() -> bool {
        true
    }
}

// SAFETY: it does not appear in SQL.
unsafe impl SqlTranslatable for Fired {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Fired);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::Skip);
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> = Err(ReturnsError::Datum);
}

/// What a trigger returns: the row to write, which only a trigger BEFORE a row has.
#[derive(Debug)]
pub struct NewRow(pg_sys::Datum);

impl NewRow {
    pub const NONE: NewRow = NewRow(pg_sys::Datum::null());

    pub fn of(row: PgHeapTuple<AllocatedByRust>) -> Self {
        NewRow(row.into_trigger_datum().unwrap_or(pg_sys::Datum::null()))
    }
}

// SAFETY: a null pointer or one to a row, and never NULL, as PostgreSQL expects it of a trigger.
unsafe impl BoxRet for NewRow {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: as above.
        unsafe { fcinfo.return_raw_datum(self.0) }
    }
}

// SAFETY: it is what SQL calls so.
unsafe impl SqlTranslatable for NewRow {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(NewRow);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> =
        Err(ArgumentError::NotValidAsArgument("NewRow"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("trigger")));
}
