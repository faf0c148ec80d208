//! What the caller may see.

use pgrx::pg_sys;

/// Whether the caller is allowed to see what PostgreSQL shows of other users' work: superusers and
/// members of `pg_read_all_stats`.
pub fn may_read_all_stats() -> bool {
    let role = pg_sys::Oid::from(pg_sys::ROLE_PG_READ_ALL_STATS);
    // SAFETY: looks roles up, in a transaction.
    unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), role) }
}
