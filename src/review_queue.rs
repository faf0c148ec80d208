//! The rows of a query that are most worth checking, and why.
//!
//! One pass keeps the most telling rows for each reason, so memory does not grow with the query. The reasons then take
//! turns, and of near-duplicates one row is shown.

mod best;
mod labels;
mod scan;
mod unlisted;

use pgrx::datum::AnyElement;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::duplicates::duplicate_cosine;

use crate::fitted;
use crate::limits;
use crate::pg::any::{AnyValue, argument_type};
use crate::pg::catalog::keyed_query::KeyedQuery;
use crate::pg::error::Result;
use crate::pg::progress::{Command, Phase, Progress};
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;
use crate::pg::wait;
use best::Candidate;
use scan::Scan;

/// Key, reason, category, probability, suggestion, priority, and the key of another row that the reason is about.
type ReviewRow = (Option<AnyValue>, &'static str, Option<String>, f32, Option<String>, f32, Option<AnyValue>);

/// Candidates that are kept for each reason, per row of the queue: enough to choose different pictures from.
const CANDIDATES_PER_ROW: usize = 10;

/// The rows of a query to look at first: its key, its image or embedding, perhaps a likeness vector, and perhaps the label
/// that it has now. `key` gives the type of the keys; its value is not used. No row for NULL. Parallel unsafe, because the
/// query may do anything.
#[pg_extern(stable, parallel_unsafe, cost = 1000000)]
#[allow(clippy::type_complexity)]
fn review_queue(
    _version: SameVersion,
    classifier: Option<RegClass>,
    query: Option<&str>,
    key: Option<AnyElement>,
    n: default!(Option<i32>, "20"),
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<
    TableIterator<
        'static,
        (
            name!(key, Option<AnyValue>),
            name!(reason, &'static str),
            name!(category, Option<String>),
            name!(probability, f32),
            name!(suggestion, Option<String>),
            name!(priority, f32),
            name!(alike, Option<AnyValue>),
        ),
    >,
    ErrorReport,
> {
    let _ = key;
    // SAFETY: `fcinfo` is that of this call.
    let key_type = unsafe { argument_type(fcinfo, 2) };
    Ok(TableIterator::new(queue(classifier, query, key_type, n)?))
}

/// As above, with keys of type bigint.
#[pg_extern(name = "review_queue", stable, parallel_unsafe, cost = 1000000)]
#[allow(clippy::type_complexity)]
fn review_bigint_queue(
    _version: SameVersion,
    classifier: Option<RegClass>,
    query: Option<&str>,
    n: default!(Option<i32>, "20"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(key, Option<i64>),
            name!(reason, &'static str),
            name!(category, Option<String>),
            name!(probability, f32),
            name!(suggestion, Option<String>),
            name!(priority, f32),
            name!(alike, Option<i64>),
        ),
    >,
    ErrorReport,
> {
    let rows = queue(classifier, query, pg_sys::INT8OID, n)?;
    // SAFETY: the query's keys were found to be binary coercible to bigint.
    let bigint = |key: Option<AnyValue>| key.and_then(|key| unsafe { key.into_value() });
    Ok(TableIterator::new(rows.into_iter().map(
        move |(key, reason, category, probability, suggestion, priority, alike)| {
            (bigint(key), reason, category, probability, suggestion, priority, bigint(alike))
        },
    )))
}

fn queue(
    classifier: Option<RegClass>,
    query: Option<&str>,
    key_type: pg_sys::Oid,
    n: Option<i32>,
) -> Result<Vec<ReviewRow>> {
    let (Some(classifier), Some(query)) = (classifier, query) else { return Ok(Vec::new()) };
    let n = limits::count(n.unwrap_or(20), "n", limits::REVIEWED)?;
    let mut progress = Progress::start(Command::ReviewQueue, classifier);
    let fitted = fitted::get(classifier)?;
    let query = KeyedQuery::open_with_labels(query, key_type)?;
    progress.phase(Phase::Classifying, query.expected_rows());
    let found = Scan::run(fitted, query, n * CANDIDATES_PER_ROW, &mut progress)?;
    let least_sure = found.least_sure.into_sorted();
    let place = |name: &str| found.place.get(name).copied();
    let unlisted = unlisted::groups(found.unlisted.into_sorted());
    let (wrong, other_label) = labels::judge(found.labels, found.label_differs.into_sorted(), place);
    // The least sure come twice as often as the others: that gained most (docs/defaults.md).
    let (first, second) = (least_sure.clone(), least_sure);
    let turns = [
        ("label looks wrong", wrong),
        ("alike, other label", other_label),
        ("least sure", first),
        ("methods disagree", found.disagree.into_sorted()),
        ("least sure", second),
        ("category not listed?", unlisted),
    ];
    Ok(take_turns(turns, n))
}

/// `n` rows, of which the reasons contribute one each in turn, the most telling first. No two are near-duplicates.
fn take_turns<const REASONS: usize>(
    turns: [(&'static str, Vec<Candidate>); REASONS],
    n: usize,
) -> Vec<ReviewRow> {
    let mut turns = turns.map(|(reason, candidates)| (reason, candidates.into_iter()));
    let mut taken: Vec<Candidate> = Vec::with_capacity(n);
    let mut reasons: Vec<&'static str> = Vec::with_capacity(n);
    let mut open = true;
    while open && taken.len() < n {
        open = false;
        for (reason, candidates) in &mut turns {
            let next = candidates.find(|candidate| {
                wait::check();
                !taken.iter().any(|other| other.row == candidate.row || is_same(other, candidate))
            });
            let Some(candidate) = next.filter(|_| taken.len() < n) else { continue };
            open = true;
            reasons.push(reason);
            taken.push(candidate);
        }
    }
    let row = |(reason, candidate): (&'static str, Candidate)| {
        let Candidate { key, category, probability, suggestion, priority, alike, .. } = candidate;
        let name = |name: std::rc::Rc<str>| name.to_string();
        (key, reason, category.map(name), probability, suggestion.map(name), priority, alike)
    };
    reasons.into_iter().zip(taken).map(row).collect()
}

/// Whether two rows show nearly the same picture.
fn is_same(a: &Candidate, b: &Candidate) -> bool {
    duplicate_cosine(&a.vector, &b.vector).is_some()
}
