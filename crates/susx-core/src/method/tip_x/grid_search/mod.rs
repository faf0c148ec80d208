//! The published grid search for the most accurate alpha, beta and gamma.
//!
//! The published code computes and ranks all logits for each of its 200,000 triples. But at a fixed beta a logit is
//! affine in alpha and gamma. With alpha fixed as well, each category other than the true one bounds gamma from one
//! side, so a row is classified correctly on one interval of gammas. One pass over the categories finds that interval,
//! for any number of gammas. Affinities are computed once, exponentials once per beta.

mod bounds;
mod cache_sums;

use bounds::Bounds;
use cache_sums::{CacheSums, LANES};

use super::LogitParts;
use crate::interrupt;

/// The values to try. Each list is ascending; those of alpha and gamma begin with 0.
#[derive(Clone, Debug, PartialEq)]
pub struct TipXGrid {
    /// Weights of the cache term.
    pub alpha: Vec<f32>,
    /// Sharpnesses of the affinities.
    pub beta: Vec<f32>,
    /// Weights of the KL term.
    pub gamma: Vec<f32>,
}

impl TipXGrid {
    /// The grid of the published code (20 × 200 × 50 triples), with 0 added for alpha and gamma, which gives zero-shot
    /// CLIP and Tip-Adapter.
    pub fn published() -> Self {
        let steps = |first: f64, last: f64, count: u32| {
            (0..count).map(move |i| (first + (last - first) * f64::from(i) / f64::from(count)) as f32)
        };
        TipXGrid {
            alpha: std::iter::once(0.0).chain(steps(0.1, 50.0, 20)).collect(),
            beta: steps(1.0, 50.0, 200).collect(),
            gamma: std::iter::once(0.0).chain(steps(0.1, 30.0, 50)).collect(),
        }
    }
}

/// The best triple, and how many rows each method classifies correctly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TipXTuned {
    /// Weight of the cache term.
    pub alpha: f32,
    /// Sharpness of the affinities.
    pub beta: f32,
    /// Weight of the KL term.
    pub gamma: f32,
    /// Rows that were tried.
    pub rows: u32,
    /// Correct rows with alpha = gamma = 0.
    pub zero_shot: u32,
    /// Correct rows with gamma = 0, at the best alpha and beta for that.
    pub tip_adapter: u32,
    /// Correct rows with the best triple.
    pub tip_x: u32,
}

/// Counts the correctly classified rows for every triple of a grid.
#[derive(Clone, Debug)]
pub struct TipXGridSearch {
    grid: TipXGrid,
    /// Differences of the counts along gamma, for each beta and alpha; one more than there are gammas.
    steps: Vec<i32>,
    rows: u32,
}

impl TipXGridSearch {
    /// Without rows.
    pub fn new(grid: TipXGrid) -> Self {
        let steps = vec![0; grid.alpha.len() * grid.beta.len() * (grid.gamma.len() + 1)];
        TipXGridSearch { grid, steps, rows: 0 }
    }

    /// Adds rows: the parts of their logits, and their true categories, n. O(n B (M + A C)) for A alphas and B betas.
    ///
    /// If an interrupt leaves it by a panic, the counts are meaningless.
    pub fn add(&mut self, parts: &LogitParts, truth: &[usize]) {
        let TipXGrid { alpha, beta, gamma } = &self.grid;
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

    /// Alpha, beta, gamma and the number of correct rows of every triple, ordered by alpha, then beta, then gamma.
    pub fn counts(&self) -> impl Iterator<Item = (f32, f32, f32, u32)> {
        let TipXGrid { alpha, beta, gamma } = &self.grid;
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

    /// The triple with the most correct rows; of equal ones that with the smallest alpha, then beta, then gamma. `None`
    /// without rows.
    pub fn best(&self) -> Option<TipXTuned> {
        let mut best: Option<TipXTuned> = None;
        let (mut zero_shot, mut tip_adapter) = (0, 0);
        for (alpha, beta, gamma, right) in self.counts() {
            if gamma == 0.0 {
                tip_adapter = right.max(tip_adapter);
                zero_shot = if alpha == 0.0 { right } else { zero_shot };
            }
            if best.is_none_or(|best| right > best.tip_x) {
                best = Some(TipXTuned {
                    alpha,
                    beta,
                    gamma,
                    rows: self.rows,
                    zero_shot,
                    tip_adapter,
                    tip_x: right,
                });
            }
        }
        best.filter(|_| self.rows > 0).map(|best| TipXTuned { zero_shot, tip_adapter, ..best })
    }
}
