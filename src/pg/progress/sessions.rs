//! The reading side: the accounts of all sessions.

use pgrx::pg_sys;

use super::{Command, Param, Phase, SUSX};

/// Who is at work, and, for those who may know, on what.
#[derive(Debug)]
pub struct Session {
    pub pid: i32,
    pub database: pg_sys::Oid,
    pub user: pg_sys::Oid,
    /// `None` without the right to see another user's work.
    pub work: Option<Work>,
}

/// How far a call has come.
#[derive(Debug)]
pub struct Work {
    /// `None` for a call that works on none, or if the session is in another database, where the number means
    /// another relation.
    pub relation: Option<pg_sys::Oid>,
    /// `None` for one that this version does not know, as of a session with a newer one; likewise below.
    pub command: Option<&'static str>,
    pub phase: Option<&'static str>,
    pub done: i64,
    pub total: Option<i64>,
    pub failed: i64,
    /// In microseconds since 2000, as PostgreSQL counts time.
    pub started: i64,
    pub phase_started: i64,
}

/// All sessions that have such a call running. As in pg_stat_activity, a transaction sees what it saw
/// first.
pub fn sessions() -> Vec<Session> {
    // SAFETY: entries are counted from 1, and are copies that live until the end of the transaction.
    let entry = |place| unsafe { local_entry(place).as_ref() };
    // SAFETY: takes the copies, or counts those that are there.
    let count = unsafe { pg_sys::pgstat_fetch_stat_numbackends() };
    (1..=count).filter_map(entry).filter_map(|local| session(&local.backendStatus)).collect()
}

#[cfg(feature = "pg15")]
unsafe fn local_entry(place: i32) -> *mut pg_sys::LocalPgBackendStatus {
    // SAFETY: NULL for a place that does not exist.
    unsafe { pg_sys::pgstat_fetch_stat_local_beentry(place) }
}

#[cfg(not(feature = "pg15"))]
unsafe fn local_entry(place: i32) -> *mut pg_sys::LocalPgBackendStatus {
    // SAFETY: as above.
    unsafe { pg_sys::pgstat_get_local_beentry_by_index(place) }
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

/// As pg_stat_activity decides it.
fn may_see(user: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the caches of roles.
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
