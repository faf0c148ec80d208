//! The constants that bring divergences into the range of affinities.
//!
//! The published code takes the ranges of both from a batch of queries. Here they are the ranges within the support
//! set, over all pairs of different rows, so that they can be frozen at fit.

use ndarray::s;
use serde::{Deserialize, Serialize};

use super::kl::KlTerm;
use crate::interrupt;
use crate::linalg::{product, range};
use crate::sus::SupportSet;

/// Ranges of affinities and of divergences up to this width are due to rounding.
const EQUAL_AFFINITIES: f64 = 1e-6;
const EQUAL_DIVERGENCES: f64 = 1e-7;
/// Rows of the pair matrices that are in memory at the same time.
const BLOCK: usize = 256;

/// `y = a * KL + b` (paper, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AffinityScale {
    /// Factor.
    pub a: f64,
    /// Offset.
    pub b: f64,
}

impl AffinityScale {
    /// The term is off: there are fewer than two support rows, or all divergences are equal.
    pub(super) const OFF: AffinityScale = AffinityScale { a: 0.0, b: 0.0 };

    /// Brings a divergence into the range of the affinities.
    pub(super) fn apply(self, divergence: f64) -> f32 {
        (self.a * divergence + self.b) as f32
    }

    fn new(affinity: Range, divergence: Range) -> Self {
        if affinity.low > affinity.high {
            return AffinityScale::OFF;
        }
        // Two rows, or equal ones, have a single affinity: the range is that point.
        if affinity.width() <= EQUAL_AFFINITIES {
            return AffinityScale { a: 0.0, b: affinity.low };
        }
        if divergence.width() <= EQUAL_DIVERGENCES {
            return AffinityScale::OFF;
        }
        let a = affinity.width() / divergence.width();
        AffinityScale { a, b: affinity.low - a * divergence.low }
    }
}

#[derive(Clone, Copy, Debug)]
struct Range {
    low: f64,
    high: f64,
}

impl Range {
    const EMPTY: Range = Range { low: f64::INFINITY, high: f64::NEG_INFINITY };

    /// Extends the range to include another one, moved up by `shift`.
    fn join(&mut self, (low, high): (f32, f32), shift: f64) {
        self.low = self.low.min(f64::from(low) + shift);
        self.high = self.high.max(f64::from(high) + shift);
    }

    fn width(self) -> f64 {
        self.high - self.low
    }
}

/// The constants of the whole support set.
pub(super) fn of_support(support_set: &SupportSet, kl: &KlTerm) -> AffinityScale {
    let (mut affinity, mut divergence) = (Range::EMPTY, Range::EMPTY);
    for_each_row(support_set, kl, Affinities::OncePerPair, |pairs| {
        for part in pairs.affinities {
            affinity.join(range(part), 0.0);
        }
        for part in pairs.divergences {
            divergence.join(range(part), pairs.shared);
        }
    });
    AffinityScale::new(affinity, divergence)
}

/// The constants without each row, M: what a fit without that row would find. Those of [`of_support`] for rows outside
/// the sample.
pub(super) fn without_each(support_set: &SupportSet, kl: &KlTerm) -> Vec<AffinityScale> {
    let [mut affinity, mut divergence] = [Ends::default(), Ends::default()];
    for_each_row(support_set, kl, Affinities::All, |pairs| {
        affinity.add_row(pairs.row, pairs.affinities, 0.0);
        divergence.add_row(pairs.row, pairs.divergences, pairs.shared);
    });
    let without = |index| AffinityScale::new(affinity.without(index), divergence.without(index));
    let mut scales = vec![without(None); support_set.len()];
    for (index, row) in support_set.sample().into_iter().enumerate() {
        interrupt::check();
        scales[row] = without(Some(index));
    }
    scales
}

/// Extremes of a matrix, from which the range without any one row and its column follows.
#[derive(Debug, Default)]
struct Ends {
    low: Vec<End>,
    high: Vec<End>,
}

/// Of one row of the matrix, or of its negative: the largest value, its column, and the largest value in the other
/// columns.
#[derive(Clone, Copy, Debug)]
struct End {
    largest: f64,
    column: usize,
    next: f64,
}

impl Ends {
    /// Adds row `i`, given in two parts, before and after the diagonal; `shift` is added to its values.
    fn add_row(&mut self, i: usize, parts: [&[f32]; 2], shift: f64) {
        let nothing = End { largest: f64::NEG_INFINITY, column: usize::MAX, next: f64::NEG_INFINITY };
        let [mut low, mut high] = [nothing; 2];
        let columns = (0..i).chain(i + 1..);
        for (column, &value) in columns.zip(parts.into_iter().flatten()) {
            let value = f64::from(value) + shift;
            low.add(column, -value);
            high.add(column, value);
        }
        self.low.push(low);
        self.high.push(high);
    }

    /// The range without row and column `index`.
    fn without(&self, index: Option<usize>) -> Range {
        let largest = |ends: &[End]| {
            let rows = ends.iter().enumerate().filter(|(i, _)| Some(*i) != index);
            let values = rows.map(|(_, end)| if Some(end.column) == index { end.next } else { end.largest });
            values.fold(f64::NEG_INFINITY, f64::max)
        };
        Range { low: -largest(&self.low), high: largest(&self.high) }
    }
}

impl End {
    fn add(&mut self, column: usize, value: f64) {
        if value > self.largest {
            *self = End { largest: value, column, next: self.largest };
        } else if value > self.next {
            self.next = value;
        }
    }
}

/// Which affinities of the sample are computed. They are symmetric, so a range needs only one of each pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Affinities {
    All,
    OncePerPair,
}

/// One row of the sample against the rows before it and those after it: affinities, and divergences minus what they
/// have in common.
struct Pairs<'a> {
    row: usize,
    affinities: [&'a [f32]; 2],
    divergences: [&'a [f32]; 2],
    shared: f64,
}

fn for_each_row(support_set: &SupportSet, kl: &KlTerm, wanted: Affinities, mut each: impl FnMut(Pairs)) {
    let sample = support_set.sample();
    let sampled = support_set.queries().select(&sample);
    let (features, likeness) = (sampled.view().features(), sampled.view().likeness());
    let weights = support_set.zeroshot_weights();
    let queries = kl.queries(weights, product(features, weights).view());
    let (centred, lambda) = kl.centred(weights, features);
    for start in (0..sample.len()).step_by(BLOCK) {
        let block = start..(start + BLOCK).min(sample.len());
        // The first row that affinities are taken to.
        let first = if wanted == Affinities::All { 0 } else { start };
        let affinities = product(likeness.slice(s![block.clone(), ..]), likeness.slice(s![first.., ..]));
        let mut divergences = product(queries.projected.slice(s![block.clone(), ..]), centred.view());
        for (row, (affinities, mut divergences)) in
            block.zip(affinities.rows().into_iter().zip(divergences.rows_mut()))
        {
            interrupt::check();
            for (value, lambda) in divergences.iter_mut().zip(&lambda) {
                *value = lambda - *value;
            }
            if let (Some(affinities), Some(divergences)) = (affinities.to_slice(), divergences.as_slice()) {
                each(Pairs {
                    row,
                    affinities: [&affinities[..row - first], &affinities[row - first + 1..]],
                    divergences: [&divergences[..row], &divergences[row + 1..]],
                    shared: queries.shared[row],
                });
            }
        }
    }
}
