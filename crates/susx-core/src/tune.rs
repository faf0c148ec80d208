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
    /// Per alpha and beta, differences of the counts along gamma; one more than there are gammas.
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
        for (row, &truth) in truth.iter().enumerate() {
            self.rows += 1;
            let Some(mut bounds) = Bounds::of(parts, row, truth) else { continue };
            let mut sums = vec![0.0; parts.balance.ncols()];
            let mut scratch = vec![0.0; parts.affinities.ncols()];
            for b in 0..self.grid.beta.len() {
                cache_sums(parts, row, self.grid.beta[b], &mut scratch, &mut sums);
                bounds.set_sums(&sums);
                for (a, &alpha) in self.grid.alpha.iter().enumerate() {
                    let place = (a * self.grid.beta.len() + b) * (self.grid.gamma.len() + 1);
                    let steps = &mut self.steps[place..][..=self.grid.gamma.len()];
                    bounds.count(alpha, &self.grid.gamma, steps);
                }
            }
        }
    }

    /// Every triple, alpha by alpha and beta by beta: alpha, beta, gamma and the rows that are right.
    pub fn counts(&self) -> impl Iterator<Item = (f32, f32, f32, u32)> {
        let Grid { alpha, beta, gamma } = &self.grid;
        let places = alpha.iter().flat_map(move |&alpha| beta.iter().map(move |&beta| (alpha, beta)));
        places.zip(self.steps.chunks(gamma.len() + 1)).flat_map(move |((alpha, beta), steps)| {
            let right = steps.iter().scan(0, |right, step| {
                *right += step;
                Some(u32::try_from(*right).unwrap_or(0))
            });
            gamma.iter().zip(right).map(move |(&gamma, right)| (alpha, beta, gamma, right))
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

/// `n/n_c * sum over i in c of exp(-beta (1 - A_i))` for every category.
fn cache_sums(parts: &Parts, row: usize, beta: f32, scratch: &mut [f32], sums: &mut [f32]) {
    for (out, affinity) in scratch.iter_mut().zip(parts.affinities.row(row)) {
        *out = beta * (affinity - 1.0);
    }
    exp(scratch);
    for (c, out) in sums.iter_mut().enumerate() {
        *out = parts.balance[(row, c)] * sum(&scratch[parts.offsets[c]..parts.offsets[c + 1]]);
    }
}

/// When a row is right.
#[derive(Debug)]
enum Bounds {
    /// The true category has support: an interval of gammas.
    Supported(Intervals),
    /// It has none and takes the largest gain of any: gammas are tried one by one.
    Unsupported(Gains),
}

impl Bounds {
    /// `None` if no triple makes the row right.
    fn of(parts: &Parts, row: usize, truth: usize) -> Option<Self> {
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
            Some(Bounds::Supported(Intervals::new(zero_shot, balance, kl, truth, rival)))
        } else {
            Some(Bounds::Unsupported(Gains::new(zero_shot, balance, kl, truth)))
        }
    }

    /// Takes in the cache sums of another beta, C.
    fn set_sums(&mut self, sums: &[f32]) {
        match self {
            Bounds::Supported(intervals) => intervals.set_sums(sums),
            Bounds::Unsupported(gains) => gains.set_sums(sums),
        }
    }

    /// Counts the gammas (ascending) for which the row is right: 1 where they begin, -1 after the last.
    fn count(&self, alpha: f32, gammas: &[f32], steps: &mut [i32]) {
        match self {
            Bounds::Supported(intervals) => {
                let Some((low, high)) = intervals.right(alpha) else { return };
                let first = gammas.partition_point(|&gamma| gamma < low);
                let end = gammas.partition_point(|&gamma| gamma <= high);
                if first < end {
                    steps[first] += 1;
                    steps[end] -= 1;
                }
            }
            Bounds::Unsupported(gains) => {
                for (i, _) in gammas.iter().enumerate().filter(|&(_, &gamma)| gains.is_right(alpha, gamma)) {
                    steps[i] += 1;
                    steps[i + 1] -= 1;
                }
            }
        }
    }
}

/// How far the true category is ahead of another by the names alone: at least 0 if it wins. Of equal
/// logits the first category wins, so a tie with an earlier one is lost, by as little as there is.
fn lead(zero_shot: ArrayView1<f32>, truth: usize, other: usize) -> f32 {
    let tie = if other < truth { 1e-30 } else { 0.0 };
    zero_shot[truth] - zero_shot[other] - tie
}

/// Right while `gamma * kl <= lead + alpha * cache` for every other category, where each is the true
/// category's part less the other's.
#[derive(Debug)]
struct Intervals {
    truth: usize,
    /// Categories of which the true one loses ground as gamma grows, which gains, and which neither.
    upper: Lines,
    lower: Lines,
    flat: Lines,
}

/// Bounds `(lead + alpha * cache) * inverse`, one element per category in every list.
#[derive(Debug, Default)]
struct Lines {
    category: Vec<usize>,
    lead: Vec<f32>,
    inverse: Vec<f32>,
    cache: Vec<f32>,
}

impl Intervals {
    fn new(
        zero_shot: ArrayView1<f32>,
        balance: ArrayView1<f32>,
        kl: ArrayView1<f32>,
        truth: usize,
        rival: Option<usize>,
    ) -> Self {
        let mut intervals =
            Intervals { truth, upper: Lines::default(), lower: Lines::default(), flat: Lines::default() };
        for c in (0..balance.len()).filter(|&c| c != truth && balance[c] > 0.0) {
            // A category without support has this one's gain at least.
            let own = lead(zero_shot, truth, c);
            let lead = rival.map_or(own, |rival| own.min(lead(zero_shot, truth, rival)));
            let slope = kl[truth] - kl[c];
            if slope.abs() < 1e-20 {
                intervals.flat.push(c, lead, 1.0);
            } else if slope > 0.0 {
                intervals.upper.push(c, lead, 1.0 / slope);
            } else {
                // Negated, so that the largest lower bound is the least of the lines.
                intervals.lower.push(c, lead, -1.0 / slope);
            }
        }
        intervals
    }

    fn set_sums(&mut self, sums: &[f32]) {
        for lines in [&mut self.upper, &mut self.lower, &mut self.flat] {
            for (cache, &c) in lines.cache.iter_mut().zip(&lines.category) {
                *cache = sums[self.truth] - sums[c];
            }
        }
    }

    /// The least and the largest gamma for which the row is right.
    fn right(&self, alpha: f32) -> Option<(f32, f32)> {
        (self.flat.least(alpha) >= 0.0).then(|| (-self.lower.least(alpha), self.upper.least(alpha)))
    }
}

impl Lines {
    fn push(&mut self, category: usize, lead: f32, inverse: f32) {
        self.category.push(category);
        self.lead.push(lead);
        self.inverse.push(inverse);
        self.cache.push(0.0);
    }

    /// The least `(lead + alpha * cache) * inverse`; infinity of none.
    fn least(&self, alpha: f32) -> f32 {
        const LANES: usize = 8;
        let (lead, lead_rest) = self.lead.as_chunks::<LANES>();
        let (cache, cache_rest) = self.cache.as_chunks::<LANES>();
        let (inverse, inverse_rest) = self.inverse.as_chunks::<LANES>();
        let mut least = [f32::INFINITY; LANES];
        for ((lead, cache), inverse) in lead.iter().zip(cache).zip(inverse) {
            for i in 0..LANES {
                let bound = (lead[i] + alpha * cache[i]) * inverse[i];
                least[i] = if bound < least[i] { bound } else { least[i] };
            }
        }
        let rest = lead_rest.iter().zip(cache_rest).zip(inverse_rest);
        let rest = rest.map(|((lead, cache), inverse)| (lead + alpha * cache) * inverse);
        least.into_iter().chain(rest).fold(f32::INFINITY, f32::min)
    }
}

/// Right while the name's own logit and the largest gain are at least every other name's and its own gain.
#[derive(Debug)]
struct Gains {
    /// The supported categories.
    category: Vec<usize>,
    lead: Vec<f32>,
    kl: Vec<f32>,
    cache: Vec<f32>,
}

impl Gains {
    fn new(zero_shot: ArrayView1<f32>, balance: ArrayView1<f32>, kl: ArrayView1<f32>, truth: usize) -> Self {
        let category: Vec<usize> = (0..balance.len()).filter(|&c| balance[c] > 0.0).collect();
        Gains {
            lead: category.iter().map(|&c| lead(zero_shot, truth, c)).collect(),
            kl: category.iter().map(|&c| kl[c]).collect(),
            cache: vec![0.0; category.len()],
            category,
        }
    }

    fn set_sums(&mut self, sums: &[f32]) {
        for (cache, &c) in self.cache.iter_mut().zip(&self.category) {
            *cache = sums[c];
        }
    }

    fn is_right(&self, alpha: f32, gamma: f32) -> bool {
        let (mut gain, mut behind) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
        for ((lead, kl), cache) in self.lead.iter().zip(&self.kl).zip(&self.cache) {
            let own = alpha * cache - gamma * kl;
            gain = gain.max(own);
            behind = behind.max(own - lead);
        }
        gain >= behind
    }
}
