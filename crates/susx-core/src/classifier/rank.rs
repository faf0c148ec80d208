//! From logits to an answer.

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, s};

use super::{Answering, Classifier, Method};
use crate::interrupt;

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
    interrupt::check();
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

impl Classifier {
    /// The `k` best categories of every unit query (N x d), in the order in which [`logits`](Self::logits)
    /// of that query alone puts them.
    ///
    /// A matrix product rounds otherwise than the product of one row, so where logits are nearer to one
    /// another than rounding can bring them, the query is ranked by itself.
    pub fn rank(&self, queries: ArrayView2<f32>, method: Method, k: usize) -> Vec<Vec<Ranked>> {
        let blocks = queries.axis_chunks_iter(Axis(0), self.most_queries());
        blocks.flat_map(|queries| self.rank_block(queries, method, k)).collect()
    }

    fn rank_block(&self, queries: ArrayView2<f32>, method: Method, k: usize) -> Vec<Vec<Ranked>> {
        let (logits, slack) = self.logits_and_slack(queries, method);
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

    /// The logits, and how far rounding can move two logits of each row towards each other.
    fn logits_and_slack(&self, queries: ArrayView2<f32>, method: Method) -> (Array2<f32>, Vec<f32>) {
        match self.answering(method) {
            Answering::Gda(gda) => gda.logits_and_slack(queries),
            Answering::TipX(method) => {
                let terms = self.tip_x().terms(queries, method);
                let slack = (0..queries.nrows()).map(|row| self.tip_x().slack(&terms, row)).collect();
                (terms.sum(), slack)
            }
        }
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
