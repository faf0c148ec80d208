//! Groups of near-duplicates in a table of images.

mod find;

use std::cmp::Reverse;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::duplicates::{THRESHOLD, cosine};

use crate::limits::similarity;
use crate::pg::catalog::keyed_vectors::KeyedVectors;
use crate::pg::error::Result;
use crate::pg::name::Name;
use crate::pg::progress::{Command, Progress};
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;
use find::{Found, Method};

/// Group, key, cosine to the image to keep, and whether this is that image.
type DuplicateRow = (i32, String, f32, bool);

/// The images of a table that have near-duplicates, group by group, the largest first; no row for NULL. Each group begins
/// with the image to keep, the one with the most near-duplicates. `exact`: whether to compare every pair of images, or to
/// ask the index where there is one; NULL leaves that to the size of the table.
#[pg_extern(stable, parallel_unsafe, cost = 1000000)]
#[allow(clippy::type_complexity)]
fn duplicates(
    _version: SameVersion,
    pool: Option<RegClass>,
    threshold: default!(Option<f64>, "0.96"),
    embedding_column: default!(Option<Name>, "'embedding'"),
    key_column: default!(Option<Name>, "NULL"),
    exact: default!(Option<bool>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (name!(group, i32), name!(key, String), name!(similarity, f32), name!(keep, bool)),
    >,
    ErrorReport,
> {
    let Some(pool) = pool else { return Ok(TableIterator::new(Vec::new())) };
    let threshold = threshold.map_or(Ok(THRESHOLD), |threshold| similarity(threshold, "threshold"))?;
    let embedding_column = embedding_column.map_or("embedding".to_owned(), |name| name.0);
    let key_column = key_column.map(|name| name.0);
    let mut progress = Progress::start(Command::Duplicates, pool);
    pool.open_for_reading()?;
    let images = KeyedVectors::open(pool, &embedding_column, key_column.as_deref())?;
    let method = match exact {
        Some(true) => Method::EveryPair,
        Some(false) => Method::Index,
        None => Method::BySize,
    };
    let found = find::find(&images, threshold, method, &mut progress)?;
    Ok(TableIterator::new(rows(found)))
}

/// The rows of all groups.
fn rows(found: Found) -> Vec<DuplicateRow> {
    let Found { keys, vectors, mut links } = found;
    let by_key = |&image: &usize| (keys[image].len(), keys[image].as_str());
    let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
    for group in links.groups() {
        let kept = group.iter().copied().min_by_key(|image| (Reverse(links.degree(*image)), by_key(image)));
        groups.extend(kept.map(|kept| (kept, group)));
    }
    groups
        .sort_by(|(a, of_a), (b, of_b)| of_b.len().cmp(&of_a.len()).then_with(|| by_key(a).cmp(&by_key(b))));
    let mut rows = Vec::with_capacity(groups.iter().map(|(_, group)| group.len()).sum());
    for (number, (kept, group)) in (1..).zip(groups) {
        let similarity =
            |image| if image == kept { 1.0 } else { cosine(vectors.row(kept), vectors.row(image)) };
        let mut members: Vec<(usize, f32)> =
            group.into_iter().map(|image| (image, similarity(image).min(1.0))).collect();
        members.sort_by(|(a, of_a), (b, of_b)| {
            let rank = |image: &usize| *image != kept;
            rank(a).cmp(&rank(b)).then(of_b.total_cmp(of_a)).then_with(|| by_key(a).cmp(&by_key(b)))
        });
        rows.extend(
            members
                .into_iter()
                .map(|(image, similarity)| (number, keys[image].clone(), similarity, image == kept)),
        );
    }
    rows
}
