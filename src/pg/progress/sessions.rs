//! Reads the progress of all sessions.

use pgrx::pg_sys;

use super::{Command, Param, Phase, SUSX};

/// A session with a long call.
#[derive(Debug)]
pub struct Session {
    pub pid: i32,
    pub database: pg_sys::Oid,
    pub user: pg_sys::Oid,
    /// `None` if the caller may not see the other user's activity.
    pub work: Option<Work>,
}

/// Progress of the call.
#[derive(Debug)]
pub struct Work {
    /// `None` if the call has no relation, or if the session is in another database, where the OID would mean another
    /// relation.
    pub relation: Option<pg_sys::Oid>,
    /// `None` if unknown, because the session has a newer version of the library.
    pub command: Option<&'static str>,
    /// `None` if unknown, for the same reason.
    pub phase: Option<&'static str>,
    pub done: i64,
    pub total: Option<i64>,
    pub failed: i64,
    /// Start of the call, in microseconds since 2000.
    pub started: i64,
    /// Start of the phase, in microseconds since 2000.
    pub phase_started: i64,
}

/// All sessions with a long call. As for pg_stat_activity, PostgreSQL takes a snapshot once per transaction.
pub fn sessions() -> Vec<Session> {
    // SAFETY: entries are counted from 1. They are copies that live until the end of the transaction.
    let entry = |index| unsafe { local_entry(index).as_ref() };
    // SAFETY: makes the copies, or counts the existing ones.
    let count = unsafe { pg_sys::pgstat_fetch_stat_numbackends() };
    (1..=count).filter_map(entry).filter_map(|local| session(&local.backendStatus)).collect()
}

#[cfg(feature = "pg15")]
unsafe fn local_entry(index: i32) -> *mut pg_sys::LocalPgBackendStatus {
    // SAFETY: returns NULL for an index out of range.
    unsafe { pg_sys::pgstat_fetch_stat_local_beentry(index) }
}

#[cfg(not(feature = "pg15"))]
unsafe fn local_entry(index: i32) -> *mut pg_sys::LocalPgBackendStatus {
    // SAFETY: as above.
    unsafe { pg_sys::pgstat_get_local_beentry_by_index(index) }
}

fn session(entry: &pg_sys::PgBackendStatus) -> Option<Session> {
    if entry.st_progress_command != SUSX {
        return None;
    }
    Some(Session {
        pid: entry.st_procpid,
        database: entry.st_databaseid,
        user: entry.st_userid,
        work: may_see(entry.st_userid).then(|| work(entry)),
    })
}

/// Whether the caller may see the user's activity, by the rules of pg_stat_activity.
fn may_see(user: pg_sys::Oid) -> bool {
    // SAFETY: role look-ups, in a transaction.
    unsafe {
        let caller = pg_sys::GetUserId();
        let readers = pg_sys::Oid::from(pg_sys::ROLE_PG_READ_ALL_STATS);
        pg_sys::has_privs_of_role(caller, readers) || pg_sys::has_privs_of_role(caller, user)
    }
}

fn work(entry: &pg_sys::PgBackendStatus) -> Work {
    let value = |param: Param| entry.st_progress_param.get(param as usize).copied().unwrap_or(0);
    let command = Command::ALL.into_iter().find(|&command| command as i64 == value(Param::Command));
    let phase = Phase::ALL.into_iter().find(|&phase| phase as i64 == value(Param::Phase));
    // SAFETY: reads a variable of this process.
    let is_here = entry.st_databaseid == unsafe { pg_sys::MyDatabaseId };
    Work {
        relation: Some(entry.st_progress_command_target)
            .filter(|&relation| is_here && relation != pg_sys::Oid::INVALID),
        command: command.map(Command::name),
        phase: phase.map(Phase::name),
        done: value(Param::Done),
        total: Some(value(Param::Total)).filter(|&total| total >= 0),
        failed: value(Param::Failed),
        started: value(Param::Started),
        phase_started: value(Param::PhaseStarted),
    }
}
