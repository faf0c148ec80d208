//! From logits to an answer.

use ndarray::{ArrayView1, ArrayView2, s};

use super::logits::Terms;
use super::{Method, TipX};

/// One category of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// Index of the category.
    pub category: usize,
    /// Its logit.
    pub score: f32,
    /// Its share of the softmax over all categories.
    pub probability: f32,
}

/// Softmax with the largest logit subtracted first, summed in float64.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp: Vec<f64> = logits.iter().map(|&l| f64::from(l - largest).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.iter().map(|e| (e / sum) as f32).collect()
}

/// The `k` categories with the largest logits, best first; equal logits in the categories' order.
pub fn top_k(logits: &[f32], k: usize) -> Vec<Ranked> {
    let probability = softmax(logits);
    let mut order: Vec<usize> = (0..logits.len()).collect();
    let best_first = |&i: &usize, &j: &usize| logits[j].total_cmp(&logits[i]).then(i.cmp(&j));
    let k = k.min(order.len());
    if k == 0 {
        return Vec::new();
    }
    if k < order.len() {
        order.select_nth_unstable_by(k - 1, best_first);
        order.truncate(k);
    }
    order.sort_unstable_by(best_first);
    order.into_iter().map(|i| Ranked { category: i, score: logits[i], probability: probability[i] }).collect()
}

impl TipX {
    /// The `k` best categories of every unit query (N x d), in the order in which [`logits`](Self::logits)
    /// of that query alone puts them.
    ///
    /// A matrix product rounds otherwise than the product of one row, so where logits are nearer to one
    /// another than rounding can bring them, the query is ranked by itself.
    pub fn rank(&self, queries: ArrayView2<f32>, method: Method, k: usize) -> Vec<Vec<Ranked>> {
        let terms = self.terms(queries, method);
        let slack: Vec<f32> = (0..queries.nrows()).map(|row| self.slack(&terms, row)).collect();
        let logits = terms.sum();
        let rows = logits.rows().into_iter().zip(slack).enumerate();
        let rank = |(row, (logits, slack)): (usize, (ArrayView1<f32>, f32))| {
            // One more than asked for, as its neighbour is what the last one must be told from.
            let mut best = top_k(&logits.to_vec(), k.saturating_add(1));
            if best.windows(2).any(|pair| pair[0].score - pair[1].score <= slack) {
                let alone = queries.slice(s![row..=row, ..]).to_owned();
                best = top_k(&self.logits(alone.view(), method).row(0).to_vec(), k);
            }
            best.truncate(k);
            best
        };
        rows.map(rank).collect()
    }

    /// How far rounding can move two logits of a row towards each other: a cosine by `d` roundings at
    /// worst, which every term then magnifies.
    fn slack(&self, terms: &Terms, row: usize) -> f32 {
        let params = &self.params;
        let cosine = self.dimensions() as f32 * f32::EPSILON;
        let cache = terms.cache.as_ref().map_or(0.0, |term| term.row(row).fold(0.0, |most, &x| x.max(most)));
        let kl =
            terms.kl.as_ref().and(self.affinity_scale()).map_or(0.0, |scale| {
                params.gamma * self.mean_count * scale.a as f32 * 2.0 / params.temperature
            });
        let size = terms.zero_shot.row(row).fold(cache, |most, &x| x.abs().max(most));
        2.0 * cosine * (params.logit_scale + params.beta * cache + kl) + 8.0 * f32::EPSILON * size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_first_and_ties_in_order() {
        let ranked = top_k(&[1.0, 3.0, 2.0, 3.0], 3);
        assert_eq!(ranked.iter().map(|r| r.category).collect::<Vec<_>>(), [1, 3, 2]);
        assert_eq!(top_k(&[1.0, 3.0], 9).len(), 2);
        assert!(top_k(&[], 1).is_empty());
    }

    #[test]
    fn softmax_survives_large_logits() {
        let p = softmax(&[1000.0, 1000.0, -1000.0]);
        assert_eq!(p, [0.5, 0.5, 0.0]);
    }
}
