//! How far single support images can be trusted to show what their category's name says.

use ndarray::{ArrayView1, Axis};

use crate::linalg::{exp, product};
use crate::sus::SupportSet;

/// How sure the names are of a support image, on average, once their cosines are scaled.
const MEAN_CONFIDENCE: f64 = 0.6;
/// Where no scale makes the names that sure, because two of them are the same say.
const LARGEST_SCALE: f64 = 1e6;
/// Halvings of the interval that the scale lies in.
const HALVINGS: usize = 50;
/// Rows whose cosines are in memory at a time.
const BLOCK: usize = 1024;

/// The weight of every support row, M: 1 for a labelled one, else the share of its category in the softmax
/// of its cosines to all names, scaled so that the largest share is 0.6 on average.
pub(super) fn of_rows(support_set: &SupportSet) -> Vec<f64> {
    let mut confidence = vec![1.0; support_set.len()];
    if support_set.labelled().iter().all(|&is_labelled| is_labelled) {
        return confidence;
    }
    let scale = scale(support_set);
    let weights = support_set.zeroshot_weights();
    for (block, features) in support_set.features().axis_chunks_iter(Axis(0), BLOCK).enumerate() {
        for (place, cosines) in product(features, weights).rows().into_iter().enumerate() {
            let row = block * BLOCK + place;
            if !support_set.labelled()[row] {
                let own = gaps(cosines)[support_set.category_of(row)];
                let all = sum_of_exp(&gaps(cosines), scale);
                confidence[row] = (scale * f64::from(own)).exp() / all;
            }
        }
    }
    confidence
}

/// The factor of the cosines at which the mean over the support of the largest share is 0.6. The mean grows
/// with the factor: it is found by halving.
fn scale(support_set: &SupportSet) -> f64 {
    let weights = support_set.zeroshot_weights();
    let sample = support_set.sample();
    let mut rows = Vec::with_capacity(sample.len());
    for block in sample.chunks(BLOCK) {
        let cosines = product(support_set.features().select(Axis(0), block).view(), weights);
        rows.extend(cosines.rows().into_iter().map(gaps));
    }
    // The largest share is that of the gap 0.
    let mean = |scale: f64| {
        let sum: f64 = rows.iter().map(|gaps| 1.0 / sum_of_exp(gaps, scale)).sum();
        sum / rows.len() as f64
    };
    let (mut low, mut high) = (0.0, 1.0);
    while mean(high) < MEAN_CONFIDENCE {
        if high >= LARGEST_SCALE {
            return LARGEST_SCALE;
        }
        (low, high) = (high, high * 2.0);
    }
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        if mean(middle) < MEAN_CONFIDENCE {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}

/// The cosines less the largest of them.
fn gaps(cosines: ArrayView1<f32>) -> Vec<f32> {
    let largest = cosines.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    cosines.iter().map(|cosine| cosine - largest).collect()
}

fn sum_of_exp(gaps: &[f32], scale: f64) -> f64 {
    let mut scaled: Vec<f32> = gaps.iter().map(|gap| gap * scale as f32).collect();
    exp(&mut scaled);
    scaled.iter().map(|&e| f64::from(e)).sum()
}
