//! `susx.stat_progress`: the progress of long calls in all sessions.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use crate::pg::progress::{self, Session};
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;

/// The columns of `susx.stat_get_progress`.
type ProgressRow = (
    i32,
    pg_sys::Oid,
    pg_sys::Oid,
    Option<RegClass>,
    Option<&'static str>,
    Option<&'static str>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<TimestampWithTimeZone>,
    Option<f64>,
    Option<TimestampWithTimeZone>,
);

/// One row per session with a long call. The view `susx.stat_progress` adds the names of users and databases.
#[pg_extern(volatile, parallel_restricted, cost = 10)]
#[allow(clippy::type_complexity)]
fn stat_get_progress(
    _version: SameVersion,
) -> TableIterator<
    'static,
    (
        name!(pid, i32),
        name!(datid, pg_sys::Oid),
        name!(usesysid, pg_sys::Oid),
        name!(relation, Option<RegClass>),
        name!(command, Option<&'static str>),
        name!(phase, Option<&'static str>),
        name!(done, Option<i64>),
        name!(total, Option<i64>),
        name!(failed, Option<i64>),
        name!(started, Option<TimestampWithTimeZone>),
        name!(rate, Option<f64>),
        name!(estimated_end, Option<TimestampWithTimeZone>),
    ),
> {
    let now = progress::timestamp();
    TableIterator::new(progress::sessions().into_iter().map(move |session| row(session, now)))
}

fn row(Session { pid, database, user, work }: Session, now: i64) -> ProgressRow {
    let Some(work) = work else {
        return (pid, database, user, None, None, None, None, None, None, None, None, None);
    };
    let elapsed = now.saturating_sub(work.phase_started);
    // Steps per second in the current phase.
    let rate = (elapsed > 0 && work.done > 0).then(|| work.done as f64 / (elapsed as f64 / 1e6));
    let end = rate.zip(work.total).and_then(|(rate, total)| {
        let left = total.saturating_sub(work.done).max(0) as f64 / rate * 1e6;
        TimestampWithTimeZone::try_from(now.saturating_add(left as i64)).ok()
    });
    (
        pid,
        database,
        user,
        work.relation.map(RegClass),
        work.command,
        work.phase,
        Some(work.done),
        work.total,
        Some(work.failed),
        TimestampWithTimeZone::try_from(work.started).ok(),
        rate,
        end,
    )
}
