//! `susx.stat_server`: the state of the inference process.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_server::protocol::{LastError, Stats};

use crate::inference::server_stats::{ServerState, server_state};
use crate::pg::roles;
use crate::pg::version::SameVersion;

/// PostgreSQL's epoch, 2000-01-01, in microseconds since 1970.
const POSTGRES_EPOCH: i64 = 946_684_800 * 1_000_000;

/// The columns of `susx.stat_get_server`.
type ServerRow = (
    Option<i32>,
    &'static str,
    Option<TimestampWithTimeZone>,
    Option<i64>,
    Option<String>,
    Option<i64>,
    Option<Vec<String>>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<String>,
    Option<f64>,
    Option<f64>,
    Option<String>,
    Option<TimestampWithTimeZone>,
);

/// One row while the inference process is running, else none. Starts no process and loads no model. If the process does
/// not answer, all columns but its process id and status are NULL.
#[pg_extern(volatile, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn stat_get_server(
    _version: SameVersion,
) -> Result<
    TableIterator<
        'static,
        (
            name!(pid, Option<i32>),
            name!(status, &'static str),
            name!(started, Option<TimestampWithTimeZone>),
            name!(restarts, Option<i64>),
            name!(version, Option<String>),
            name!(connections, Option<i64>),
            name!(models, Option<Vec<String>>),
            name!(queue_inputs, Option<i64>),
            name!(queue_bytes, Option<i64>),
            name!(images, Option<i64>),
            name!(texts, Option<i64>),
            name!(generated, Option<i64>),
            name!(failed, Option<i64>),
            name!(batches, Option<i64>),
            name!(images_per_second, Option<f64>),
            name!(texts_per_second, Option<f64>),
            name!(steps_per_second, Option<f64>),
            name!(batch_sizes, Option<String>),
            name!(p50_ms, Option<f64>),
            name!(p95_ms, Option<f64>),
            name!(last_error, Option<String>),
            name!(last_error_at, Option<TimestampWithTimeZone>),
        ),
    >,
    ErrorReport,
> {
    let shows_errors = roles::may_read_all_stats();
    Ok(TableIterator::new(server_state()?.into_iter().map(move |state| row(state, shows_errors))))
}

/// `shows_errors`: whether the caller may see the last error, which may contain paths on the server and tell what other
/// users did.
fn row(ServerState { pid, stats }: ServerState, shows_errors: bool) -> ServerRow {
    let answers = stats.is_some();
    let stats = stats.unwrap_or_default();
    let number = |count: u64| answers.then(|| i64::try_from(count).unwrap_or(i64::MAX));
    let batch_sizes = answers.then(|| histogram(&stats));
    let (last_error, last_error_at) = match stats.last_error {
        Some(LastError { message, at }) => (Some(message).filter(|_| shows_errors), timestamp(at)),
        None => (None, None),
    };
    (
        pid,
        if answers { "answering" } else { "not answering" },
        answers.then(|| timestamp(stats.started)).flatten(),
        number(u64::from(stats.restarts)),
        answers.then_some(stats.version),
        number(stats.connections),
        answers.then_some(stats.models),
        number(stats.queue_inputs),
        number(stats.queue_bytes),
        number(stats.images),
        number(stats.texts),
        number(stats.generated),
        number(stats.failed),
        number(stats.batches),
        answers.then_some(stats.images_per_second),
        answers.then_some(stats.texts_per_second),
        answers.then_some(stats.steps_per_second),
        batch_sizes,
        stats.p50_ms,
        stats.p95_ms,
        last_error,
        last_error_at,
    )
}

/// Number of batches by size, as a JSON object: `{"1": 7, "3-4": 2}`.
fn histogram(stats: &Stats) -> String {
    let last = stats.batch_sizes.len().saturating_sub(1);
    let buckets = stats.batch_sizes.iter().enumerate().filter(|(_, batches)| **batches > 0);
    let entries: Vec<String> = buckets
        .map(|(index, batches)| {
            let upper = 1_u64 << index;
            let lower = upper / 2 + 1;
            match index {
                0 | 1 => format!("\"{upper}\": {batches}"),
                index if index == last => format!("\"{lower}-\": {batches}"),
                _ => format!("\"{lower}-{upper}\": {batches}"),
            }
        })
        .collect();
    format!("{{{}}}", entries.join(", "))
}

/// A time in microseconds since 1970; `None` if it is out of PostgreSQL's range.
fn timestamp(microseconds: i64) -> Option<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(microseconds.checked_sub(POSTGRES_EPOCH)?).ok()
}
