//! The caller's role and privileges.

use pgrx::pg_sys;

/// The user whose privileges apply.
pub fn current_user() -> pg_sys::Oid {
    // SAFETY: reads a variable of this process.
    unsafe { pg_sys::GetUserId() }
}

/// Whether the caller may see the activity of other users: superusers and members of `pg_read_all_stats`.
pub fn may_read_all_stats() -> bool {
    let role = pg_sys::Oid::from(pg_sys::ROLE_PG_READ_ALL_STATS);
    // SAFETY: role look-ups, in a transaction.
    unsafe { pg_sys::has_privs_of_role(current_user(), role) }
}

/// Runs `call` as another role. Only for fixed statements of this extension, and only after a check that the caller is
/// entitled to their effect.
pub fn as_role<T>(role: pg_sys::Oid, call: impl FnOnce() -> T) -> T {
    // It keeps SET ROLE from undoing the change.
    as_role_with(role, pg_sys::SECURITY_LOCAL_USERID_CHANGE, call)
}

/// Like [`as_role`], for statements that run that role's code, such as triggers of its table. The code can leave
/// nothing behind that runs later as the caller, such as a deferred trigger or a temporary table.
pub fn as_restricted_role<T>(role: pg_sys::Oid, call: impl FnOnce() -> T) -> T {
    let restricted = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
    as_role_with(role, restricted, call)
}

fn as_role_with<T>(role: pg_sys::Oid, flags: u32, call: impl FnOnce() -> T) -> T {
    let (mut caller, mut context) = (pg_sys::Oid::INVALID, 0);
    // SAFETY: writes to the two variables. An ERROR in between aborts the transaction or subtransaction, which restores
    // both values.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut caller, &mut context);
        pg_sys::SetUserIdAndSecContext(role, context | flags as i32);
    }
    let result = call();
    // SAFETY: restores the values from above.
    unsafe { pg_sys::SetUserIdAndSecContext(caller, context) };
    result
}
