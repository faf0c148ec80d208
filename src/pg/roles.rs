//! Who the caller is, and what the caller may see.

use pgrx::pg_sys;

/// Whether the caller is allowed to see what PostgreSQL shows of other users' work: superusers and
/// members of `pg_read_all_stats`.
pub fn may_read_all_stats() -> bool {
    let role = pg_sys::Oid::from(pg_sys::ROLE_PG_READ_ALL_STATS);
    // SAFETY: looks roles up, in a transaction.
    unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), role) }
}

/// Runs `call` as another role. Only for a statement that is written here, after it was found that the caller may
/// have it done.
pub fn as_role<T>(role: pg_sys::Oid, call: impl FnOnce() -> T) -> T {
    let (mut caller, mut context) = (pg_sys::Oid::INVALID, 0);
    // SAFETY: writes to the two variables. As a change of the role for a while, which SET ROLE cannot undo; an ERROR in
    // between aborts the transaction, or the subtransaction, which sets both back to what they were.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut caller, &mut context);
        pg_sys::SetUserIdAndSecContext(role, context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32);
    }
    let result = call();
    // SAFETY: these were the values.
    unsafe { pg_sys::SetUserIdAndSecContext(caller, context) };
    result
}
