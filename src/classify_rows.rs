//! Labels of the rows of a query, for any number of rows.
//!
//! A cursor reads the query in batches, and each call of the set-returning function returns one row, so memory is
//! bounded, and reading ends as soon as the caller wants no more rows. While the rows of one batch are returned, the
//! images of the following batches are embedded.

mod stream;

use pgrx::datum::AnyElement;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::fitted;
use crate::limits;
use crate::pg::any::{AnyValue, argument_type};
use crate::pg::catalog::keyed_query::KeyedQuery;
use crate::pg::error::Result;
use crate::pg::progress::{Command, Phase, Progress};
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;
use stream::ClassificationStream;

/// The `k` best categories of every row of a query: its key, and its image or embedding. `key` gives the type of the
/// keys; its value is not used. A row that the classifier's parameter `reject` gives no label has no category. No row for
/// NULL. Parallel unsafe, because the query may do anything.
///
/// `key` can have no default: when PostgreSQL determines the columns of a call in FROM, it looks for the type among the
/// arguments as they are written. Hence the other function of this name.
#[pg_extern(stable, parallel_unsafe, cost = 1000000)]
#[allow(clippy::type_complexity)]
fn classify_rows(
    _version: SameVersion,
    classifier: Option<RegClass>,
    query: Option<&str>,
    key: Option<AnyElement>,
    k: default!(Option<i32>, "1"),
    method: default!(Option<&str>, "NULL"),
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<
    TableIterator<
        'static,
        (
            name!(key, Option<AnyValue>),
            name!(rank, Option<i32>),
            name!(category, Option<String>),
            name!(score, Option<f32>),
            name!(probability, Option<f32>),
            name!(known, Option<f32>),
            name!(error, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let _ = key;
    // SAFETY: `fcinfo` is that of this call.
    let key_type = unsafe { argument_type(fcinfo, 2) };
    let rows = classified(classifier, query, key_type, k, method)?;
    Ok(TableIterator::new(rows.into_iter().flatten()))
}

/// As above, with keys of type bigint.
#[pg_extern(name = "classify_rows", stable, parallel_unsafe, cost = 1000000)]
#[allow(clippy::type_complexity)]
fn classify_bigint_rows(
    _version: SameVersion,
    classifier: Option<RegClass>,
    query: Option<&str>,
    k: default!(Option<i32>, "1"),
    method: default!(Option<&str>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(key, Option<i64>),
            name!(rank, Option<i32>),
            name!(category, Option<String>),
            name!(score, Option<f32>),
            name!(probability, Option<f32>),
            name!(known, Option<f32>),
            name!(error, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let rows = classified(classifier, query, pg_sys::INT8OID, k, method)?;
    Ok(TableIterator::new(rows.into_iter().flatten().map(
        |(key, rank, category, score, probability, known, error)| {
            // SAFETY: the query's keys were found to be binary coercible to bigint.
            let key = key.and_then(|key| unsafe { key.into_value() });
            (key, rank, category, score, probability, known, error)
        },
    )))
}

fn classified(
    classifier: Option<RegClass>,
    query: Option<&str>,
    key_type: pg_sys::Oid,
    k: Option<i32>,
    method: Option<&str>,
) -> Result<Option<ClassificationStream>> {
    let (Some(classifier), Some(query)) = (classifier, query) else { return Ok(None) };
    let k = limits::count(k.unwrap_or(1), "k", limits::BEST)?;
    let mut progress = Progress::start(Command::ClassifyRows, classifier);
    let fitted = fitted::get(classifier)?;
    let method = fitted.method(method)?;
    let query = KeyedQuery::open(query, key_type)?;
    progress.phase(Phase::Classifying, query.expected_rows());
    Ok(Some(ClassificationStream::new(fitted, method, k, query, progress)?))
}
