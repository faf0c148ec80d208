//! The alphas and gammas for which a row is classified correctly.

use ndarray::ArrayView1;

use crate::interrupt;
use crate::method::tip_x::LogitParts;

/// The condition for a row to be classified correctly.
#[derive(Debug)]
pub(super) enum Bounds {
    /// The true category has support: an interval of gammas for every alpha.
    Supported(Intervals),
    /// It has none and gets the largest gain of any category: triples are tried one by one.
    Unsupported(Gains),
}

impl Bounds {
    /// `None` if no triple classifies the row correctly.
    pub fn of(parts: &LogitParts, row: usize, truth: usize, alpha: &[f32]) -> Option<Self> {
        let zero_shot = parts.zero_shot.row(row);
        let balance = parts.balance.row(row);
        let kl = parts.kl.row(row);
        // All categories without support have the same gain, so only the one with the best zero-shot score matters.
        let rival = (0..balance.len())
            .filter(|&c| balance[c] == 0.0 && c != truth)
            .max_by(|&i, &j| zero_shot[i].total_cmp(&zero_shot[j]).then(j.cmp(&i)));
        if rival.is_some_and(|rival| margin(zero_shot, truth, rival) < 0.0) {
            return None;
        }
        if balance[truth] > 0.0 {
            Some(Bounds::Supported(Intervals::new(zero_shot, balance, kl, truth, rival, alpha)))
        } else {
            Some(Bounds::Unsupported(Gains::new(zero_shot, balance, kl, truth)))
        }
    }

    /// Counts the gammas (ascending) for which the row is correct with these cache sums (C), for one alpha after the
    /// other: adds 1 where their interval begins and -1 after its end.
    pub fn count(&mut self, sums: &[f32], alphas: &[f32], gammas: &[f32], steps: &mut [i32]) {
        match self {
            Bounds::Supported(intervals) => intervals.count(sums, gammas, steps),
            Bounds::Unsupported(gains) => gains.count(sums, alphas, gammas, steps),
        }
    }
}

/// Zero-shot margin of the true category over another: at least 0 if it wins. The first of equal logits wins, so a tie
/// with an earlier category counts as lost, by the smallest margin.
fn margin(zero_shot: ArrayView1<f32>, truth: usize, other: usize) -> f32 {
    let tie = if other < truth { 1e-30 } else { 0.0 };
    zero_shot[truth] - zero_shot[other] - tie
}

/// Alphas that are processed together: a multiple of the width of vector registers.
const LANES: usize = 8;

/// Correct while `gamma * kl <= margin + alpha * cache` for every other category, where each part is that of the true
/// category minus that of the other.
#[derive(Debug)]
pub(super) struct Intervals {
    truth: usize,
    /// Categories that bound gamma from above, from below, and not at all.
    upper: Vec<Line>,
    lower: Vec<Line>,
    flat: Vec<Line>,
    /// Padded with 0 to a whole number of lanes.
    alpha: Vec<[f32; LANES]>,
    /// Where the previous interval of each alpha began and ended: the search for the next starts there.
    begin: Vec<usize>,
    end: Vec<usize>,
}

/// The bound `(margin + alpha * cache) * inverse` from one category.
#[derive(Clone, Copy, Debug)]
struct Line {
    category: usize,
    /// Already multiplied by `inverse`.
    margin: f32,
    inverse: f32,
}

impl Intervals {
    fn new(
        zero_shot: ArrayView1<f32>,
        balance: ArrayView1<f32>,
        kl: ArrayView1<f32>,
        truth: usize,
        rival: Option<usize>,
        alpha: &[f32],
    ) -> Self {
        let (mut upper, mut lower, mut flat) = (Vec::new(), Vec::new(), Vec::new());
        for category in (0..balance.len()).filter(|&c| c != truth && balance[c] > 0.0) {
            // Categories without support gain at least as much as this one.
            let own = margin(zero_shot, truth, category);
            let margin = rival.map_or(own, |rival| own.min(margin(zero_shot, truth, rival)));
            let slope = kl[truth] - kl[category];
            // Lower bounds are negated, so that the minimum of the lines is the largest of them.
            let (lines, inverse) = match slope {
                slope if slope.abs() < 1e-20 => (&mut flat, 1.0),
                slope if slope > 0.0 => (&mut upper, 1.0 / slope),
                slope => (&mut lower, -1.0 / slope),
            };
            lines.push(Line { category, margin: margin * inverse, inverse });
        }
        let mut lanes = vec![[0.0; LANES]; alpha.len().div_ceil(LANES)];
        lanes.as_flattened_mut()[..alpha.len()].copy_from_slice(alpha);
        let (begin, end) = (vec![0; alpha.len()], vec![0; alpha.len()]);
        Intervals { truth, upper, lower, flat, alpha: lanes, begin, end }
    }

    fn count(&mut self, sums: &[f32], gammas: &[f32], steps: &mut [i32]) {
        let intervals_of_alphas =
            self.begin.iter_mut().zip(&mut self.end).zip(steps.chunks_mut(gammas.len() + 1));
        let mut intervals_of_alphas = intervals_of_alphas.into_iter();
        let (upper, lower, flat) = (&self.upper, &self.lower, &self.flat);
        for alpha in &self.alpha {
            let minimum = |lines: &[Line]| minimum_of(lines, sums, self.truth, alpha);
            let (upper, lower, flat) = (minimum(upper), minimum(lower), minimum(flat));
            for (lane, ((begin, end), steps)) in intervals_of_alphas.by_ref().take(LANES).enumerate() {
                if flat[lane] < 0.0 {
                    continue;
                }
                // The first gamma at or above the lower bound, and the first above the upper one.
                *begin = moved(*begin, gammas, |gamma| gamma < -lower[lane]);
                *end = moved(*end, gammas, |gamma| gamma <= upper[lane]);
                if *begin < *end {
                    steps[*begin] += 1;
                    steps[*end] -= 1;
                }
            }
        }
    }
}

/// The minimum of some lines for each alpha; infinity without lines.
fn minimum_of(lines: &[Line], sums: &[f32], truth: usize, alpha: &[f32; LANES]) -> [f32; LANES] {
    let mut minimum = [f32::INFINITY; LANES];
    for line in lines {
        let cache = (sums[truth] - sums[line.category]) * line.inverse;
        for i in 0..LANES {
            let bound = line.margin + alpha[i] * cache;
            minimum[i] = if bound < minimum[i] { bound } else { minimum[i] };
        }
    }
    minimum
}

/// The number of gammas (ascending) that are `below`; the search starts at `start`.
fn moved(start: usize, gammas: &[f32], below: impl Fn(f32) -> bool) -> usize {
    let mut position = start;
    while position > 0 && !below(gammas[position - 1]) {
        position -= 1;
    }
    while position < gammas.len() && below(gammas[position]) {
        position += 1;
    }
    position
}

/// Correct while the true category's zero-shot logit plus the largest gain is at least every other category's logit.
#[derive(Debug)]
pub(super) struct Gains {
    /// Index, zero-shot margin of the true category, and KL part of each supported category.
    categories: Vec<(usize, f32, f32)>,
}

impl Gains {
    fn new(zero_shot: ArrayView1<f32>, balance: ArrayView1<f32>, kl: ArrayView1<f32>, truth: usize) -> Self {
        let supported = (0..balance.len()).filter(|&c| balance[c] > 0.0);
        Gains { categories: supported.map(|c| (c, margin(zero_shot, truth, c), kl[c])).collect() }
    }

    fn count(&self, sums: &[f32], alphas: &[f32], gammas: &[f32], steps: &mut [i32]) {
        for (&alpha, steps) in alphas.iter().zip(steps.chunks_mut(gammas.len() + 1)) {
            interrupt::check();
            for (i, &gamma) in gammas.iter().enumerate() {
                let (mut gain, mut behind) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
                for &(c, margin, kl) in &self.categories {
                    let own = alpha * sums[c] - gamma * kl;
                    gain = gain.max(own);
                    behind = behind.max(own - margin);
                }
                if gain >= behind {
                    steps[i] += 1;
                    steps[i + 1] -= 1;
                }
            }
        }
    }
}
