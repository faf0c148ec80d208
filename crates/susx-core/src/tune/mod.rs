//! The alpha, beta and gamma that are right most often, by the published grid search.
//!
//! The published code forms and ranks all logits for each of its 200,000 triples. But at a fixed beta a
//! logit is affine in alpha and gamma: for a fixed alpha as well, each category other than the true one
//! puts one bound on gamma, so that a row is right on one interval of gammas, found in one pass over the
//! categories whatever the number of gammas. Affinities are computed once, exponentials once per beta.

mod bounds;
mod cache;

use bounds::Bounds;
use cache::{CacheSums, LANES};

use crate::interrupt;
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
    ///
    /// After a panic, by which a caller leaves it, its counts mean nothing.
    pub fn add(&mut self, parts: &Parts, truth: &[usize]) {
        let Grid { alpha, beta, gamma } = &self.grid;
        self.rows += truth.len() as u32;
        for (group, truth) in truth.chunks(LANES).enumerate() {
            let first = group * LANES;
            let mut bounds: Vec<_> =
                (first..).zip(truth).map(|(row, &truth)| Bounds::of(parts, row, truth, alpha)).collect();
            let mut cache = CacheSums::new(parts, first, truth.len());
            for (&beta, steps) in beta.iter().zip(self.steps.chunks_mut(alpha.len() * (gamma.len() + 1))) {
                let sums = cache.at(beta);
                for (bounds, sums) in bounds.iter_mut().zip(sums) {
                    if let Some(bounds) = bounds {
                        bounds.count(sums, alpha, gamma, steps);
                    }
                }
                interrupt::check();
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
