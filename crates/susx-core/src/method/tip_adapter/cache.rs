//! The cache term.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, Axis, s};

use super::Balance;
use crate::classifier::ValidParams;
use crate::linalg::{exp, range, row_product_into, sum};
use crate::sus::SupportSet;

/// Queries and support rows whose affinities are in memory at the same time: half a megabyte, which stays in the
/// processor's cache between the product and the sums.
const QUERIES: usize = 256;
const ROWS: usize = 512;

/// The cache term (n × C) of queries by their likeness (n × e). `nearest` (n) is overwritten by the largest cosine of each
/// query to a support row.
pub(super) fn term(
    support_set: &SupportSet,
    balance: &Balance,
    params: ValidParams,
    queries: ArrayView2<f32>,
    nearest: Option<&mut [f32]>,
) -> Array2<f32> {
    let mut term = sums(support_set, params.beta, None, queries, nearest);
    for mut term in term.rows_mut() {
        for (value, ratio) in term.iter_mut().zip(&balance.ratio) {
            *value *= params.alpha * ratio;
        }
    }
    term
}

/// The sums of `w_i exp(-beta (1 - A_i))` over the support rows of each category (n × C), for queries by their likeness
/// (n × e); without weights (M), they are 1. `nearest` as for [`term`].
///
/// One matrix product, one exponential per support row, one sum per category: the support rows are sorted by category,
/// so no one-hot product is needed. Works in blocks, each of which is consumed while it is in the processor's cache.
pub(in crate::method) fn sums(
    support_set: &SupportSet,
    beta: f32,
    weights: Option<&[f32]>,
    queries: ArrayView2<f32>,
    mut nearest: Option<&mut [f32]>,
) -> Array2<f32> {
    if let Some(nearest) = &mut nearest {
        nearest.fill(f32::NEG_INFINITY);
    }
    let features = support_set.likeness();
    let mut sums = Array2::zeros((queries.nrows(), support_set.categories().len()));
    let mut block = vec![0.0; queries.nrows().min(QUERIES) * features.nrows().min(ROWS)];
    let blocks = queries.axis_chunks_iter(Axis(0), QUERIES).zip(sums.axis_chunks_iter_mut(Axis(0), QUERIES));
    for (first, (queries, mut sums)) in (0..).step_by(QUERIES).zip(blocks) {
        let mut start = 0;
        for rows in features.axis_chunks_iter(Axis(0), ROWS) {
            let span = start..start + rows.nrows();
            let categories: Vec<_> = categories_within(support_set, &span).collect();
            let block = &mut block[..queries.nrows() * rows.nrows()];
            row_product_into(queries, rows, block);
            let weights = weights.map(|weights| &weights[span.clone()]);
            for (query, (affinities, mut sums)) in
                (first..).zip(block.chunks_mut(rows.nrows()).zip(sums.rows_mut()))
            {
                if let Some(nearest) = &mut nearest {
                    nearest[query] = nearest[query].max(range(affinities).1);
                }
                sharpen(affinities, beta);
                weigh(affinities, weights);
                for (c, own) in &categories {
                    sums[*c] += sum(&affinities[own.clone()]);
                }
            }
            start = span.end;
        }
    }
    sums
}

/// Like [`sums`] for one category and a single query (1 × e), to the last bit; and the largest cosine to one of its rows.
pub(in crate::method) fn sum_of_category(
    support_set: &SupportSet,
    beta: f32,
    weights: Option<&[f32]>,
    query: ArrayView2<f32>,
    category: usize,
) -> (f32, f32) {
    let own = support_set.rows(category);
    let mut block = vec![0.0; own.len().min(ROWS)];
    let (mut total, mut nearest) = (0.0, f32::NEG_INFINITY);
    // The same parts, so that the additions come in the same order.
    for start in (own.start - own.start % ROWS..own.end).step_by(ROWS) {
        let rows = own.start.max(start)..own.end.min(start + ROWS);
        let affinities = &mut block[..rows.len()];
        row_product_into(query, support_set.likeness().slice(s![rows.clone(), ..]), affinities);
        nearest = range(affinities).1.max(nearest);
        sharpen(affinities, beta);
        weigh(affinities, weights.map(|weights| &weights[rows]));
        total += sum(affinities);
    }
    (total, nearest)
}

/// The categories with rows in a span of support rows, and which rows, counted from the start of the span.
fn categories_within(
    support_set: &SupportSet,
    span: &Range<usize>,
) -> impl Iterator<Item = (usize, Range<usize>)> {
    let offsets = support_set.offsets();
    let Range { start, end } = *span;
    (support_set.category_of(start)..support_set.categories().len())
        .take_while(move |&c| offsets[c] < end)
        .map(move |c| (c, offsets[c].max(start) - start..offsets[c + 1].min(end) - start))
}

fn weigh(affinities: &mut [f32], weights: Option<&[f32]>) {
    if let Some(weights) = weights {
        affinities.iter_mut().zip(weights).for_each(|(affinity, weight)| *affinity *= weight);
    }
}

/// Replaces affinities `A` by `exp(-beta (1 - A))`.
pub(in crate::method) fn sharpen(affinities: &mut [f32], beta: f32) {
    for a in affinities.iter_mut() {
        *a = beta * (*a - 1.0);
    }
    exp(affinities);
}
