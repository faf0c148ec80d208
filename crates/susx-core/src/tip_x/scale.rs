//! The constants that bring divergences into the range of affinities.
//!
//! The published code takes the ranges of both from a batch of queries; here they are those of the
//! support set against itself, a row with itself left out, so that they are frozen at fit.

use ndarray::{Axis, s};

use super::kl::KlTerm;
use crate::linalg::{product, range};
use crate::sus::SupportSet;

/// Pairs of support rows beyond which the ranges are taken from a sample.
const SCALE_ROWS: usize = 4096;
/// Rows of the pair matrices that are in memory at a time.
const BLOCK: usize = 256;

/// `y = a * KL + b` (paper, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AffinityScale {
    pub a: f64,
    pub b: f64,
}

impl AffinityScale {
    /// With fewer than two distinct support rows there is no range to scale to: the term is off.
    pub(super) const OFF: AffinityScale = AffinityScale { a: 0.0, b: 0.0 };

    /// A divergence in the range of the affinities.
    pub(super) fn apply(self, divergence: f32) -> f32 {
        (self.a * f64::from(divergence) + self.b) as f32
    }

    fn new(affinity: Range, divergence: Range) -> Self {
        // Of equal rows both ranges are rounding noise: there is nothing to scale.
        if divergence.width() <= 1e-7 || affinity.width() <= 0.0 {
            return AffinityScale::OFF;
        }
        let a = affinity.width() / divergence.width();
        AffinityScale { a, b: f64::from(affinity.low) - a * f64::from(divergence.low) }
    }
}

#[derive(Clone, Copy, Debug)]
struct Range {
    low: f32,
    high: f32,
}

impl Range {
    const EMPTY: Range = Range { low: f32::INFINITY, high: f32::NEG_INFINITY };

    fn join(&mut self, (low, high): (f32, f32)) {
        self.low = self.low.min(low);
        self.high = self.high.max(high);
    }

    /// 0 (not minus infinity) while nothing was joined.
    fn width(self) -> f64 {
        (f64::from(self.high) - f64::from(self.low)).max(0.0)
    }
}

/// The constants of the whole support set.
pub(super) fn of_support(support_set: &SupportSet, kl: &KlTerm) -> AffinityScale {
    let (mut affinity, mut divergence) = (Range::EMPTY, Range::EMPTY);
    for_each_row(support_set, kl, |_, others| {
        for (affinities, divergences) in others {
            affinity.join(range(affinities));
            divergence.join(range(divergences));
        }
    });
    AffinityScale::new(affinity, divergence)
}

/// The constants of the support set without row `i`, for every `i`: what they would be if it were
/// fitted without it. M; as [`of_support`] where the row is not in the sample.
pub(super) fn without_each(support_set: &SupportSet, kl: &KlTerm) -> Vec<AffinityScale> {
    let mut affinity = (Extremes::default(), Extremes::default());
    let mut divergence = (Extremes::default(), Extremes::default());
    for_each_row(support_set, kl, |i, others| {
        for (low_high, values) in
            [&mut affinity, &mut divergence].into_iter().zip([others.map(|(a, _)| a), others.map(|(_, d)| d)])
        {
            low_high.0.add_row(i, values, |x| -x);
            low_high.1.add_row(i, values, |x| x);
        }
    });
    let sample = sample(support_set.len());
    let without = |place: Option<usize>| {
        let range = |(low, high): &(Extremes, Extremes)| Range {
            low: -low.without(place),
            high: high.without(place),
        };
        AffinityScale::new(range(&affinity), range(&divergence))
    };
    let whole = without(None);
    let mut scales = vec![whole; support_set.len()];
    for (place, row) in sample.into_iter().enumerate() {
        scales[row] = without(Some(place));
    }
    scales
}

/// The largest values of a matrix without its diagonal, from which the largest without any one row and
/// column follows.
#[derive(Debug, Default)]
struct Extremes {
    /// Of every row: the largest value, its column, and the largest value in the other columns.
    rows: Vec<(f32, usize, f32)>,
}

impl Extremes {
    /// Row `i`, in two parts, before and after the diagonal.
    fn add_row(&mut self, i: usize, parts: [&[f32]; 2], sign: impl Fn(f32) -> f32) {
        let mut row = (f32::NEG_INFINITY, usize::MAX, f32::NEG_INFINITY);
        let columns = (0..i).chain(i + 1..);
        for (column, &value) in columns.zip(parts.into_iter().flatten()) {
            let value = sign(value);
            if value > row.0 {
                row = (value, column, row.0);
            } else if value > row.2 {
                row.2 = value;
            }
        }
        self.rows.push(row);
    }

    fn without(&self, place: Option<usize>) -> f32 {
        let rows = self.rows.iter().enumerate().filter(|(i, _)| Some(*i) != place);
        rows.map(|(_, row)| if Some(row.1) == place { row.2 } else { row.0 })
            .fold(f32::NEG_INFINITY, f32::max)
    }
}

/// Evenly spaced rows: they are sorted by category, so all categories are met, and the same table always
/// gives the same constants.
fn sample(total: usize) -> Vec<usize> {
    let rows = total.min(SCALE_ROWS);
    (0..rows).map(|i| i * total / rows).collect()
}

/// Shows the affinities and the divergences of every row of the sample to the rows before it and those
/// after it.
fn for_each_row(support_set: &SupportSet, kl: &KlTerm, mut each: impl FnMut(usize, [(&[f32], &[f32]); 2])) {
    let sample = sample(support_set.len());
    let features = support_set.features().select(Axis(0), &sample);
    let weights = support_set.zeroshot_weights();
    let spread = kl.spread(weights, product(features.view(), weights).view());
    let (centred, lambda) = kl.centred(weights, features.view());
    for start in (0..sample.len()).step_by(BLOCK) {
        let block = start..(start + BLOCK).min(sample.len());
        let affinities = product(features.slice(s![block.clone(), ..]), features.view());
        let mut divergences = product(spread.pull.slice(s![block.clone(), ..]), centred.view());
        for (i, (affinities, mut divergences)) in
            block.zip(affinities.rows().into_iter().zip(divergences.rows_mut()))
        {
            for (value, lambda) in divergences.iter_mut().zip(&lambda) {
                *value = spread.shared[i] - *value + lambda;
            }
            let (Some(affinities), Some(divergences)) = (affinities.to_slice(), divergences.as_slice())
            else {
                continue;
            };
            each(i, [(&affinities[..i], &divergences[..i]), (&affinities[i + 1..], &divergences[i + 1..])]);
        }
    }
}
