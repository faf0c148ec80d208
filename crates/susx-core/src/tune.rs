//! The alpha, beta and gamma that are right most often, by the published grid search.
//!
//! The published code computes all logits anew for each of its 200,000 triples. But at a fixed beta a
//! logit is affine in alpha and gamma: for a fixed alpha as well, each category other than the true one
//! puts one bound on gamma, so that a row is right on one interval of gammas, found in one pass over the
//! categories whatever the number of gammas. Affinities are computed once, exponentials once per beta.

use ndarray::ArrayView1;

use crate::linalg::{exp, sum};
use crate::tip_x::Parts;

/// The values to try, each list ascending and beginning with 0 for alpha and gamma.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    pub alpha: Vec<f32>,
    pub beta: Vec<f32>,
    pub gamma: Vec<f32>,
}

impl Grid {
    /// The grid of the published code (20 x 200 x 50 triples), and 0 for alpha and gamma, which are
    /// Tip-Adapter and zero-shot CLIP.
    pub fn published() -> Self {
        let steps = |first: f64, last: f64, count: u32| {
            (0..count).map(move |i| (first + (last - first) * f64::from(i) / f64::from(count)) as f32)
        };
        Grid {
            alpha: std::iter::once(0.0).chain(steps(0.1, 50.0, 20)).collect(),
            beta: steps(1.0, 50.0, 200).collect(),
            gamma: std::iter::once(0.0).chain(steps(0.1, 30.0, 50)).collect(),
        }
    }
}

/// The best triple and how many rows each method gets right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuned {
    pub alpha: f32,
    pub beta: f32,
    pub gamma: f32,
    pub rows: u32,
    /// Rows right with alpha = gamma = 0.
    pub zero_shot: u32,
    /// Rows right with gamma = 0, at the best alpha and beta for that.
    pub tip_adapter: u32,
    /// Rows right with the best triple.
    pub tip_x: u32,
}

/// Counts, for every triple of a grid, the rows that it gets right.
#[derive(Clone, Debug)]
pub struct Search {
    grid: Grid,
    /// Per beta and alpha, differences of the counts along gamma; one more than there are gammas.
    steps: Vec<i32>,
    rows: u32,
}

impl Search {
    pub fn new(grid: Grid) -> Self {
        let steps = vec![0; grid.alpha.len() * grid.beta.len() * (grid.gamma.len() + 1)];
        Search { grid, steps, rows: 0 }
    }

    /// Adds rows: their parts, and the categories that would be right, n. O(n (B (M + A C))) for A
    /// alphas and B betas.
    pub fn add(&mut self, parts: &Parts, truth: &[usize]) {
        let Grid { alpha, beta, gamma } = &self.grid;
        let mut sums = vec![0.0; parts.balance.ncols()];
        for (row, &truth) in truth.iter().enumerate() {
            self.rows += 1;
            let Some(mut bounds) = Bounds::of(parts, row, truth, alpha) else { continue };
            let mut affinities = Sharpened::new(parts.affinities.row(row));
            for (&beta, steps) in beta.iter().zip(self.steps.chunks_mut(alpha.len() * (gamma.len() + 1))) {
                let sharpened = affinities.at(beta);
                for (c, out) in sums.iter_mut().enumerate() {
                    *out = parts.balance[(row, c)] * sum(&sharpened[parts.offsets[c]..parts.offsets[c + 1]]);
                }
                bounds.count(&sums, alpha, gamma, steps);
            }
        }
    }

    /// Every triple, alpha by alpha and beta by beta: alpha, beta, gamma and the rows that are right.
    pub fn counts(&self) -> impl Iterator<Item = (f32, f32, f32, u32)> {
        let Grid { alpha, beta, gamma } = &self.grid;
        let per_beta = alpha.len() * (gamma.len() + 1);
        (0..alpha.len()).flat_map(move |a| {
            beta.iter().zip(self.steps.chunks(per_beta)).flat_map(move |(&beta, steps)| {
                let steps = &steps[a * (gamma.len() + 1)..];
                let right = steps.iter().scan(0, |right, step| {
                    *right += step;
                    Some(u32::try_from(*right).unwrap_or(0))
                });
                gamma.iter().zip(right).map(move |(&gamma, right)| (alpha[a], beta, gamma, right))
            })
        })
    }

    /// The triple with the most rows right; of equal ones the smallest alpha, then beta, then gamma.
    /// `None` without rows.
    pub fn best(&self) -> Option<Tuned> {
        let mut best: Option<Tuned> = None;
        let (mut zero_shot, mut tip_adapter) = (0, 0);
        for (alpha, beta, gamma, right) in self.counts() {
            if gamma == 0.0 {
                tip_adapter = right.max(tip_adapter);
                zero_shot = if alpha == 0.0 { right } else { zero_shot };
            }
            if best.is_none_or(|best| right > best.tip_x) {
                best =
                    Some(Tuned { alpha, beta, gamma, rows: self.rows, zero_shot, tip_adapter, tip_x: right });
            }
        }
        best.filter(|_| self.rows > 0).map(|best| Tuned { zero_shot, tip_adapter, ..best })
    }
}

/// `exp(-beta (1 - A))` of one row for one beta after the other: of evenly spaced betas each is the last
/// one times the same factor, which is faster.
#[derive(Debug)]
struct Sharpened {
    /// `A - 1`.
    distance: Vec<f32>,
    beta: f32,
    value: Vec<f32>,
    /// The factor of a step of this width.
    width: f32,
    factor: Vec<f32>,
    /// Steps since the last exponential: each costs a rounding.
    steps: usize,
}

impl Sharpened {
    const MOST_STEPS: usize = 16;

    fn new(affinities: ArrayView1<f32>) -> Self {
        let distance: Vec<f32> = affinities.iter().map(|affinity| affinity - 1.0).collect();
        let (value, factor) = (vec![1.0; distance.len()], vec![1.0; distance.len()]);
        Sharpened { distance, beta: 0.0, value, width: 0.0, factor, steps: Self::MOST_STEPS }
    }

    fn at(&mut self, beta: f32) -> &[f32] {
        let width = beta - self.beta;
        // Evenly spaced but for the last digits of the betas themselves.
        let is_even = (width - self.width).abs() <= 4.0 * f32::EPSILON * beta;
        if is_even && self.steps < Self::MOST_STEPS {
            self.value.iter_mut().zip(&self.factor).for_each(|(value, factor)| *value *= factor);
            self.steps += 1;
        } else {
            exp_of_multiple(&self.distance, beta, &mut self.value);
            if !is_even {
                exp_of_multiple(&self.distance, width, &mut self.factor);
                self.width = width;
            }
            self.steps = 0;
        }
        self.beta = beta;
        &self.value
    }
}

/// `e^(factor * x)` of every element, 0 of minus infinity whatever the factor.
fn exp_of_multiple(values: &[f32], factor: f32, out: &mut [f32]) {
    for (out, &value) in out.iter_mut().zip(values) {
        *out = if value == f32::NEG_INFINITY { value } else { factor * value };
    }
    exp(out);
}

/// When a row is right.
#[derive(Debug)]
enum Bounds {
    /// The true category has support: an interval of gammas for every alpha.
    Supported(Intervals),
    /// It has none and takes the largest gain of any: triples are tried one by one.
    Unsupported(Gains),
}

impl Bounds {
    /// `None` if no triple makes the row right.
    fn of(parts: &Parts, row: usize, truth: usize, alpha: &[f32]) -> Option<Self> {
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
    fn count(&mut self, sums: &[f32], alphas: &[f32], gammas: &[f32], steps: &mut [i32]) {
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
struct Intervals {
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
struct Gains {
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
