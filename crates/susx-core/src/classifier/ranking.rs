//! From logits to ranked categories.

use crate::interrupt;

/// One category of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// Index of the category.
    pub category: usize,
    /// Its logit.
    pub score: f32,
    /// Its softmax probability over all categories, 0 to 1.
    pub probability: f32,
}

/// Softmax of logits divided by a temperature. The largest logit is subtracted first; the sum is in float64.
pub fn softmax(logits: &[f32], temperature: f32) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp: Vec<f64> =
        logits.iter().map(|&l| (f64::from(l - largest) / f64::from(temperature)).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.iter().map(|e| (e / sum) as f32).collect()
}

/// The `k` categories with the largest logits, best first; equal logits in the order of the categories. The
/// probabilities are the softmax at this temperature.
pub fn top_k(logits: &[f32], k: usize, temperature: f32) -> Vec<Ranked> {
    interrupt::check();
    let probability = softmax(logits, temperature);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_first_and_ties_in_order() {
        let ranked = top_k(&[1.0, 3.0, 2.0, 3.0], 3, 1.0);
        assert_eq!(ranked.iter().map(|r| r.category).collect::<Vec<_>>(), [1, 3, 2]);
        assert_eq!(top_k(&[1.0, 3.0], 9, 1.0).len(), 2);
        assert!(top_k(&[], 1, 1.0).is_empty());
    }

    #[test]
    fn softmax_survives_large_logits() {
        let p = softmax(&[1000.0, 1000.0, -1000.0], 1.0);
        assert_eq!(p, [0.5, 0.5, 0.0]);
    }

    #[test]
    fn a_temperature_makes_probabilities_more_alike() {
        let odds = |temperature| {
            let p = softmax(&[2.0, 0.0], temperature);
            p[0] / p[1]
        };
        assert!((odds(1.0) - 2.0f32.exp()).abs() < 1e-4);
        assert!((odds(4.0) - 0.5f32.exp()).abs() < 1e-5);
    }
}
