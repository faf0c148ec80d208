//! What susx tells PostgreSQL's planner about its functions.

use pgrx::Internal;
use pgrx::nodes::is_a;
use pgrx::pg_sys::NodeTag;
use pgrx::prelude::*;

/// The planner's support function of `classify` and `explain`: how many rows a call returns, where that is known before it
/// runs. Without it, the planner would take the number that the function declares.
///
/// PostgreSQL passes a request and expects the same request, answered, or a null pointer.
#[pg_extern(sql = r#"
CREATE FUNCTION susx.classify_support(internal) RETURNS internal
    LANGUAGE c STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn classify_support(request: Internal) -> Internal {
    // SAFETY: only the planner can call a function with an argument of type internal.
    let answered = unsafe { request.unwrap().and_then(|datum| answer(datum.cast_mut_ptr())) };
    // A null pointer, and not SQL's NULL.
    Internal::from(Some(pg_sys::Datum::from(answered.unwrap_or(std::ptr::null_mut()))))
}

/// Answers a request for a number of rows, and returns it; `None` for any other request, and if the number is not known.
///
/// # Safety
///
/// `request` must be NULL or a request of the planner.
unsafe fn answer(request: *mut pg_sys::Node) -> Option<*mut pg_sys::Node> {
    // SAFETY: as above; a node has the type that its tag tells. The arguments are those that the function declares.
    unsafe {
        if !is_a(request, NodeTag::T_SupportRequestRows) {
            return None;
        }
        let asked = &mut *request.cast::<pg_sys::SupportRequestRows>();
        if !is_a(asked.node, NodeTag::T_FuncExpr) {
            return None;
        }
        let arguments = (*asked.node.cast::<pg_sys::FuncExpr>()).args.as_ref()?;
        let cells = std::slice::from_raw_parts(arguments.elements, usize::try_from(arguments.length).ok()?);
        let argument = |index| cells.get(index).map(|cell: &pg_sys::ListCell| cell.ptr_value.cast());
        let categories = count(asked.root, argument(K)?)?;
        // `explain` returns this many rows for each category.
        let each = argument(SUPPORT_ROWS).filter(|&it| pg_sys::exprType(it) == pg_sys::INT4OID);
        let each = each.map_or(Some(1.0), |it| count(asked.root, it))?;
        asked.rows = categories * each;
        Some(request)
    }
}

/// The arguments of `classify` and `explain` that decide how many rows there are. The one of `explain` is `support_rows`.
const K: usize = 2;
const SUPPORT_ROWS: usize = 4;

/// The value of an argument, at least 1; `None` if it is not known yet. NULL stands for 1.
///
/// # Safety
///
/// Both must be valid, and the argument an expression of type integer.
unsafe fn count(root: *mut pg_sys::PlannerInfo, argument: *mut pg_sys::Node) -> Option<f64> {
    // SAFETY: as above; a node has the type that its tag tells, and a constant of type integer is passed by value.
    unsafe {
        let argument = pg_sys::estimate_expression_value(root, argument);
        if !is_a(argument, NodeTag::T_Const) {
            return None;
        }
        let constant = &*argument.cast::<pg_sys::Const>();
        let value = if constant.constisnull { 1 } else { constant.constvalue.value() as i32 };
        Some(f64::from(value.max(1)))
    }
}
