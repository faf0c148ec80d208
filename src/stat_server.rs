//! `susx.stat_server`: the inference process at work.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_server::protocol::{ErrorSeen, Stats};

use crate::inference::stats::{self, Seen};
use crate::pg::roles;
use crate::pg::version::SameVersion;

/// Microseconds from 1970 to 2000, where PostgreSQL's time begins.
const EPOCHS_APART: i64 = 946_684_800 * 1_000_000;

/// One row while the inference process runs, none while it does not. Looking starts no process and loads
/// no model. Of a process that does not answer only its process id is known.
#[pg_extern(volatile, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn stat_get_server(
    _version: SameVersion,
) -> Result<
    TableIterator<
        'static,
        (
            name!(pid, Option<i32>),
            name!(status, String),
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
    // It may hold paths of the server, and what other users did.
    let shows_errors = roles::may_read_all_stats();
    let row = move |Seen { pid, stats }: Seen| {
        let status = if stats.is_some() { "answering" } else { "not answering" };
        let answers = stats.is_some();
        let stats = stats.unwrap_or_default();
        let number = |count: u64| answers.then(|| i64::try_from(count).unwrap_or(i64::MAX));
        let batch_sizes = answers.then(|| histogram(&stats));
        let (last_error, last_error_at) = match stats.last_error {
            Some(ErrorSeen { message, at }) => (Some(message).filter(|_| shows_errors), timestamp(at)),
            None => (None, None),
        };
        (
            pid,
            status.to_owned(),
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
    };
    Ok(TableIterator::new(stats::look()?.into_iter().map(row)))
}

/// The sizes of batches that occurred and how often, as a JSON object: `{"1": 7, "3-4": 2}`.
fn histogram(stats: &Stats) -> String {
    let last = stats.batch_sizes.len().saturating_sub(1);
    let buckets = stats.batch_sizes.iter().enumerate().filter(|(_, batches)| **batches > 0);
    let entries: Vec<String> = buckets
        .map(|(place, batches)| {
            let upper = 1_u64 << place;
            let lower = upper / 2 + 1;
            match place {
                0 | 1 => format!("\"{upper}\": {batches}"),
                place if place == last => format!("\"{lower}-\": {batches}"),
                _ => format!("\"{lower}-{upper}\": {batches}"),
            }
        })
        .collect();
    format!("{{{}}}", entries.join(", "))
}

/// `None` for a time beyond PostgreSQL's.
fn timestamp(microseconds: i64) -> Option<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(microseconds.checked_sub(EPOCHS_APART)?).ok()
}
