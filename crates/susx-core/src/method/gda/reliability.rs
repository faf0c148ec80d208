//! How reliable an unlabelled support set is.

use ndarray::Axis;

use super::confidence::Confidence;
use super::discriminant::Discriminant;
use super::sums::{MIN_MASS, Sums};
use crate::classifier::ValidParams;
use crate::interrupt;
use crate::linalg::product;
use crate::sus::SupportSet;

/// Factor on `logit_scale` when zero-shot scores and discriminant together judge a support image.
const SHARPENING: f64 = 2.0;
/// Share of the support set's category bias that is removed for each share of its images that is likely wrong.
const DEBIAS_PER_ERROR: f64 = 2.0;
/// Support rows that a category needs for its reliability to be half the mean of theirs.
const PRIOR_ROWS: f64 = 4.0;

/// Sums of a support set weighted by zero-shot confidence alone. They do not depend on the ridge.
#[derive(Clone, Debug)]
pub(super) struct ZeroShotSums {
    sums: Sums,
    /// Zero-shot probability of each row's category, M.
    probabilities: Vec<f64>,
    gate: f64,
}

/// What the discriminant is fitted to.
#[derive(Clone, Debug)]
pub(super) struct WeightedSupport {
    pub sums: Sums,
    /// Probability that each row shows its category, 0 to 1, M.
    row_reliability: Vec<f64>,
    /// Reliability of each category's support, 0 to 1, C.
    pub reliability: Vec<f64>,
    /// Share of the support set's category bias to remove, 0 to 1: 0 if all rows are labelled or certain.
    pub debias: f64,
    /// Scale of the cosines in the softmax that says which categories a query may belong to.
    pub gate: f64,
}

impl ZeroShotSums {
    /// Of a support set that is not empty. O(M d (C + min(M, d))).
    pub fn of(support_set: &SupportSet, logit_scale: f32) -> Self {
        let Confidence { rows, probabilities, gate } = Confidence::of(support_set, logit_scale);
        ZeroShotSums { sums: Sums::of(support_set, rows), probabilities, gate }
    }
}

impl WeightedSupport {
    /// Of a support set that is not empty. O(M d (C + min(M, d)) + min(M, d)^3).
    pub fn of(support_set: &SupportSet, params: ValidParams) -> Self {
        let zero_shot = ZeroShotSums::of(support_set, params.logit_scale);
        Self::with(support_set, &zero_shot, params.logit_scale, params.ridge.into())
    }

    /// Like [`of`](Self::of), for one of several ridges.
    pub fn with(support_set: &SupportSet, zero_shot: &ZeroShotSums, logit_scale: f32, ridge: f64) -> Self {
        let ZeroShotSums { sums, probabilities, gate } = zero_shot;
        let (sums, row_reliability) = match agreement(support_set, sums, logit_scale, ridge) {
            None => (sums.clone(), probabilities.clone()),
            Some(agreement) => {
                let times = |rows: &[f64]| rows.iter().zip(&agreement).map(|(a, b)| a * b).collect();
                (Sums::of(support_set, times(&sums.weights)), times(probabilities))
            }
        };
        let of_category = |c: usize| {
            let rows = support_set.rows(c);
            shrunk_mean(row_reliability[rows.clone()].iter().sum(), rows.len())
        };
        let reliability = (0..sums.mass.len()).map(of_category).collect();
        let rows = support_set.len() as f64;
        let unlabelled = support_set.labelled().iter().filter(|&&is_labelled| !is_labelled).count() as f64;
        let wrong = 1.0 - row_reliability.iter().sum::<f64>() / rows;
        let debias = unlabelled / rows * (DEBIAS_PER_ERROR * wrong).clamp(0.0, 1.0);
        WeightedSupport { sums, row_reliability, reliability, debias, gate: *gate }
    }

    /// Reliability of a category without one of its `count` rows.
    pub fn reliability_without(&self, row: usize, category: usize, count: usize) -> f64 {
        let sum = self.reliability[category] * (count as f64 + PRIOR_ROWS);
        shrunk_mean((sum - self.row_reliability[row]).max(0.0), count - 1)
    }
}

/// How far zero-shot scores and discriminant agree on each unlabelled row, M: the probability of its category in the
/// softmax of both, where the discriminant is fitted without the row. 1 for labelled rows and for a row that is alone
/// in its category. `None` if it is 1 for all rows, or if no two categories can be separated.
fn agreement(support_set: &SupportSet, sums: &Sums, logit_scale: f32, ridge: f64) -> Option<Vec<f64>> {
    let labelled = support_set.labelled();
    let supported = sums.mass.iter().filter(|&&mass| mass >= MIN_MASS).count();
    if sums.scatter.variance().is_none() || supported < 2 {
        return None;
    }
    let judged: Vec<usize> = (0..support_set.len())
        .filter(|&row| !labelled[row] && sums.has_others(row, support_set.category_of(row)))
        .collect();
    if judged.is_empty() {
        return None;
    }
    let discriminant = Discriminant::of(sums, ridge).scaled_by_leave_one_out(support_set, sums)?;
    let scale = SHARPENING * f64::from(logit_scale);
    let mut agreement = vec![1.0; support_set.len()];
    discriminant.each_without(support_set, sums, &judged, |rows, g| {
        let features = support_set.features().select(Axis(0), rows);
        let cosines = product(features.view(), support_set.zeroshot_weights()).mapv(f64::from);
        for (&row, both) in rows.iter().zip((cosines + g).rows()) {
            interrupt::check();
            let own = both[support_set.category_of(row)];
            agreement[row] = both.iter().map(|score| (scale * (score - own)).exp()).sum::<f64>().recip();
        }
    });
    Some(agreement)
}

/// Mean of the reliabilities of `count` rows, of which `sum` is the sum, shrunk towards 0 for few rows.
fn shrunk_mean(sum: f64, count: usize) -> f64 {
    // (sum / count) * (count / (count + prior)). The sum of no numbers is -0, which SQL would show.
    if count == 0 { 0.0 } else { sum / (count as f64 + PRIOR_ROWS) }
}

/// What the support set of an unlabelled pool can be trusted with.
#[derive(Clone, Debug)]
pub(in crate::method) struct Trust {
    /// Probability that each row shows its category, 0 to 1, M.
    pub rows: Vec<f64>,
    /// Scale of the cosines in the softmax that says which categories a query may belong to.
    pub gate: f64,
}

/// Of a support set that is not empty. O(M d (C + min(M, d)) + min(M, d)^3).
pub(in crate::method) fn trust(support_set: &SupportSet, params: ValidParams) -> Trust {
    let WeightedSupport { row_reliability, gate, .. } = WeightedSupport::of(support_set, params);
    Trust { rows: row_reliability, gate }
}
