//! For which alphas and gammas a row is right.

use ndarray::ArrayView1;

use crate::interrupt;
use crate::tip_x::Parts;

/// When a row is right.
#[derive(Debug)]
pub(super) enum Bounds {
    /// The true category has support: an interval of gammas for every alpha.
    Supported(Intervals),
    /// It has none and takes the largest gain of any: triples are tried one by one.
    Unsupported(Gains),
}

impl Bounds {
    /// `None` if no triple makes the row right.
    pub fn of(parts: &Parts, row: usize, truth: usize, alpha: &[f32]) -> Option<Self> {
        let zero_shot = parts.zero_shot.row(row);
        let balance = parts.balance.row(row);
        let kl = parts.kl.row(row);
        // Of the categories without support only the best name counts, as all have the same gain.
        let rival = (0..balance.len())
            .filter(|&c| balance[c] == 0.0 && c != truth)
            .max_by(|&i, &j| zero_shot[i].total_cmp(&zero_shot[j]).then(j.cmp(&i)));
        if rival.is_some_and(|rival| lead(zero_shot, truth, rival) < 0.0) {
            return None;
        }
        if balance[truth] > 0.0 {
            Some(Bounds::Supported(Intervals::new(zero_shot, balance, kl, truth, rival, alpha)))
        } else {
            Some(Bounds::Unsupported(Gains::new(zero_shot, balance, kl, truth)))
        }
    }

    /// Counts the gammas (ascending) for which the row is right with these cache sums (C), for every alpha
    /// in turn: 1 where they begin, -1 after the last.
    pub fn count(&mut self, sums: &[f32], alphas: &[f32], gammas: &[f32], steps: &mut [i32]) {
        match self {
            Bounds::Supported(intervals) => intervals.count(sums, gammas, steps),
            Bounds::Unsupported(gains) => gains.count(sums, alphas, gammas, steps),
        }
    }
}

/// How far the true category is ahead of another by the names alone: at least 0 if it wins. Of equal
/// logits the first category wins, so a tie with an earlier one is lost, by as little as there is.
fn lead(zero_shot: ArrayView1<f32>, truth: usize, other: usize) -> f32 {
    let tie = if other < truth { 1e-30 } else { 0.0 };
    zero_shot[truth] - zero_shot[other] - tie
}

/// Alphas that are looked at together, a multiple of what fits into the processor's vectors.
const LANES: usize = 8;

/// Right while `gamma * kl <= lead + alpha * cache` for every other category, where each is the true
/// category's part less the other's.
#[derive(Debug)]
pub(super) struct Intervals {
    truth: usize,
    /// Categories of which the true one loses ground as gamma grows, which gains, and which neither.
    upper: Vec<Line>,
    lower: Vec<Line>,
    flat: Vec<Line>,
    /// A whole number of lanes; the last ones are 0.
    alpha: Vec<[f32; LANES]>,
    /// Where the last interval of each alpha began and ended: the next is not far.
    begin: Vec<usize>,
    end: Vec<usize>,
}

/// A bound `(lead + alpha * cache) * inverse` by one category.
#[derive(Clone, Copy, Debug)]
struct Line {
    category: usize,
    /// Times `inverse`.
    lead: f32,
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
            // A category without support has this one's gain at least.
            let own = lead(zero_shot, truth, category);
            let lead = rival.map_or(own, |rival| own.min(lead(zero_shot, truth, rival)));
            let slope = kl[truth] - kl[category];
            // Of a lower bound the negative, so that the largest of them is the least of the lines.
            let (lines, inverse) = match slope {
                slope if slope.abs() < 1e-20 => (&mut flat, 1.0),
                slope if slope > 0.0 => (&mut upper, 1.0 / slope),
                slope => (&mut lower, -1.0 / slope),
            };
            lines.push(Line { category, lead: lead * inverse, inverse });
        }
        let mut lanes = vec![[0.0; LANES]; alpha.len().div_ceil(LANES)];
        lanes.as_flattened_mut()[..alpha.len()].copy_from_slice(alpha);
        let (begin, end) = (vec![0; alpha.len()], vec![0; alpha.len()]);
        Intervals { truth, upper, lower, flat, alpha: lanes, begin, end }
    }

    fn count(&mut self, sums: &[f32], gammas: &[f32], steps: &mut [i32]) {
        let places = self.begin.iter_mut().zip(&mut self.end).zip(steps.chunks_mut(gammas.len() + 1));
        let mut places = places.into_iter();
        let (upper, lower, flat) = (&self.upper, &self.lower, &self.flat);
        for alpha in &self.alpha {
            let least = |lines: &[Line]| least(lines, sums, self.truth, alpha);
            let (upper, lower, flat) = (least(upper), least(lower), least(flat));
            for (lane, ((begin, end), steps)) in places.by_ref().take(LANES).enumerate() {
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

/// The least of some lines for every alpha; infinity of none.
fn least(lines: &[Line], sums: &[f32], truth: usize, alpha: &[f32; LANES]) -> [f32; LANES] {
    let mut least = [f32::INFINITY; LANES];
    for line in lines {
        let cache = (sums[truth] - sums[line.category]) * line.inverse;
        for i in 0..LANES {
            let bound = line.lead + alpha[i] * cache;
            least[i] = if bound < least[i] { bound } else { least[i] };
        }
    }
    least
}

/// The number of gammas (ascending) before the first that is not `below`, sought from `start`.
fn moved(start: usize, gammas: &[f32], below: impl Fn(f32) -> bool) -> usize {
    let mut place = start;
    while place > 0 && !below(gammas[place - 1]) {
        place -= 1;
    }
    while place < gammas.len() && below(gammas[place]) {
        place += 1;
    }
    place
}

/// Right while the name's own logit and the largest gain are at least every other name's and its own gain.
#[derive(Debug)]
pub(super) struct Gains {
    /// The supported categories: which, the name's lead, and what gamma is multiplied with.
    categories: Vec<(usize, f32, f32)>,
}

impl Gains {
    fn new(zero_shot: ArrayView1<f32>, balance: ArrayView1<f32>, kl: ArrayView1<f32>, truth: usize) -> Self {
        let supported = (0..balance.len()).filter(|&c| balance[c] > 0.0);
        Gains { categories: supported.map(|c| (c, lead(zero_shot, truth, c), kl[c])).collect() }
    }

    fn count(&self, sums: &[f32], alphas: &[f32], gammas: &[f32], steps: &mut [i32]) {
        for (&alpha, steps) in alphas.iter().zip(steps.chunks_mut(gammas.len() + 1)) {
            interrupt::check();
            for (i, &gamma) in gammas.iter().enumerate() {
                let (mut gain, mut behind) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
                for &(c, lead, kl) in &self.categories {
                    let own = alpha * sums[c] - gamma * kl;
                    gain = gain.max(own);
                    behind = behind.max(own - lead);
                }
                if gain >= behind {
                    steps[i] += 1;
                    steps[i + 1] -= 1;
                }
            }
        }
    }
}
