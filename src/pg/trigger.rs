//! Trigger functions.
//!
//! With pgrx's own attribute for trigger functions, an error becomes a panic that loses its SQLSTATE, and so does a
//! call that is not by a trigger. Here a trigger function is one that takes a [`TriggerCall`] and returns a [`NewRow`].

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

/// The call of a trigger function. It is not an argument in SQL.
#[derive(Debug)]
pub struct TriggerCall(pg_sys::FunctionCallInfo);

impl TriggerCall {
    /// The trigger and its rows; an error if the function was not called by a trigger.
    pub fn trigger(&self) -> Result<PgTrigger<'_>> {
        // SAFETY: the pointer and the trigger data are those of the running call.
        let trigger = unsafe { self.0.as_ref().map(|call| PgTrigger::from_fcinfo(call)) };
        trigger.and_then(|trigger| trigger.ok()).ok_or_else(|| NotFired.into())
    }
}

// SAFETY: uses no argument of the call.
unsafe impl<'fcx> ArgAbi<'fcx> for TriggerCall {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: passes on the caller's promise.
        TriggerCall(unsafe { pg_sys::FunctionCallInfo::unbox_arg_unchecked(arg) })
    }

    fn is_virtual_arg() -> bool {
        true
    }
}

// SAFETY: it does not appear in SQL.
unsafe impl SqlTranslatable for TriggerCall {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(TriggerCall);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::Skip);
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> = Err(ReturnsError::Datum);
}

/// The result of a trigger function: the row to write, for a BEFORE ROW trigger only.
#[derive(Debug)]
pub struct NewRow(pg_sys::Datum);

impl NewRow {
    /// The result of all other triggers.
    pub const NONE: NewRow = NewRow(pg_sys::Datum::null());

    /// The row to write.
    pub fn of(row: PgHeapTuple<AllocatedByRust>) -> Self {
        NewRow(row.into_trigger_datum().unwrap_or(pg_sys::Datum::null()))
    }
}

// SAFETY: a pointer to a row or a null pointer, and never SQL's NULL, as PostgreSQL requires of a trigger.
unsafe impl BoxRet for NewRow {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: as above.
        unsafe { fcinfo.return_raw_datum(self.0) }
    }
}

// SAFETY: `trigger` is the return type of trigger functions.
unsafe impl SqlTranslatable for NewRow {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(NewRow);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> =
        Err(ArgumentError::NotValidAsArgument("NewRow"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("trigger")));
}
