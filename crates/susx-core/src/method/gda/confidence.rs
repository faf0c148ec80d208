//! Zero-shot confidence in single support images.

use ndarray::{ArrayView1, Axis};

use crate::interrupt;
use crate::linalg::{bisect, block_rows, exp, product};
use crate::sus::{SupportSet, sample};

/// Mean largest softmax share at which the zero-shot confidences weigh the support images.
const MEAN_CONFIDENCE: f64 = 0.7;
/// Upper limit of the scale for that, as a multiple of the model's `logit_scale`.
const MAX_SHARPNESS: f64 = 0.8;
/// Mean largest softmax share at which the cosines say which categories an image may belong to.
const MEAN_GATE_CONFIDENCE: f64 = 0.9;
/// The interval of scales that is searched, and how often it is halved.
const SCALES: (f64, f64) = (1e-2, 1e5);
const HALVINGS: usize = 30;
/// Most rows whose cosines are in memory at the same time.
const BLOCK: usize = 1024;

/// Zero-shot confidence in the images of a support set.
#[derive(Clone, Debug)]
pub(in crate::method) struct Confidence {
    /// Weight of each support row, M: 1 if it is labelled, else the share of its category in the softmax of its cosines
    /// to all names, at a scale found without labels.
    pub rows: Vec<f64>,
    /// The same at `logit_scale`, which is the zero-shot probability of the category, M.
    pub probabilities: Vec<f64>,
    /// Scale of the cosines in the softmax that says which categories a query may belong to.
    pub gate: f64,
}

impl Confidence {
    /// Of a support set that is not empty. O(M C d).
    pub fn of(support_set: &SupportSet, logit_scale: f32) -> Self {
        let sample = gaps_of_sample(support_set);
        let scale = scale_of(&sample, MEAN_CONFIDENCE).min(MAX_SHARPNESS * f64::from(logit_scale));
        let mut rows = vec![1.0; support_set.len()];
        let mut probabilities = rows.clone();
        let weights = support_set.zeroshot_weights();
        let labelled = support_set.labelled();
        let rows_per_block = block_rows(weights.nrows(), BLOCK);
        for (block, features) in support_set.features().axis_chunks_iter(Axis(0), rows_per_block).enumerate()
        {
            let first = block * rows_per_block;
            if labelled[first..first + features.nrows()].iter().all(|&is_labelled| is_labelled) {
                continue;
            }
            for (row, cosines) in (first..).zip(product(features, weights).rows()) {
                interrupt::check();
                if !labelled[row] {
                    let gaps = gaps(cosines);
                    let own = f64::from(gaps[support_set.category_of(row)]);
                    let share = |scale: f64| (scale * own).exp() / sum_of_exp(&gaps, scale);
                    (rows[row], probabilities[row]) = (share(scale), share(logit_scale.into()));
                }
            }
        }
        Confidence { rows, probabilities, gate: scale_of(&sample, MEAN_GATE_CONFIDENCE) }
    }
}

/// Cosines to all names, minus the largest, of a sample of the unlabelled images; of all images if all are labelled.
fn gaps_of_sample(support_set: &SupportSet) -> Vec<Vec<f32>> {
    let all = 0..support_set.len();
    let mut rows: Vec<usize> = all.clone().filter(|&row| !support_set.labelled()[row]).collect();
    if rows.is_empty() {
        rows = all.collect();
    }
    let sample: Vec<usize> =
        sample(rows.len(), support_set.categories().len()).into_iter().map(|index| rows[index]).collect();
    let mut all_gaps = Vec::with_capacity(sample.len());
    for block in sample.chunks(block_rows(support_set.categories().len(), BLOCK)) {
        let features = support_set.features().select(Axis(0), block);
        let cosines = product(features.view(), support_set.zeroshot_weights());
        all_gaps.extend(cosines.rows().into_iter().map(gaps));
    }
    all_gaps
}

/// The scale of the cosines at which the largest softmax share has this mean over the rows. The mean grows with the
/// scale, which is found by bisection on a logarithmic axis.
fn scale_of(rows: &[Vec<f32>], target: f64) -> f64 {
    // The largest share is that of the category with gap 0.
    let mean =
        |scale: f64| rows.iter().map(|gaps| 1.0 / sum_of_exp(gaps, scale)).sum::<f64>() / rows.len() as f64;
    bisect(SCALES, HALVINGS, |scale| mean(scale) < target)
}

/// Cosines minus the largest of them.
fn gaps(cosines: ArrayView1<f32>) -> Vec<f32> {
    let largest = cosines.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    cosines.iter().map(|cosine| cosine - largest).collect()
}

fn sum_of_exp(gaps: &[f32], scale: f64) -> f64 {
    let mut scaled: Vec<f32> = gaps.iter().map(|gap| gap * scale as f32).collect();
    exp(&mut scaled);
    scaled.iter().map(|&e| f64::from(e)).sum()
}
