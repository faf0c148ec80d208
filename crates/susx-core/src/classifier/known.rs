//! Whether an image is of any category at all.
//!
//! Two numbers, each from 0 to 1, indicate it: the probability `P` of the best category by the default method, and
//!
//! ```text
//! V = sum of p_c / (1 + exp(-(z_c + 2) / 0.5))
//! ```
//!
//! which says whether the image is as close to the names that it may be of (`p`) as their support images are: `z_c` is how
//! many standard deviations its cosine is above theirs, so two deviations below count one half. With negatives, names of
//! other things, a third one is whether the image is nearer to the categories than to them, compared with the support
//! images: with `u = logsumexp(s cos to the categories) - logsumexp(s cos to the negatives)`, whose median over the support
//! rows is `m` and whose interquartile range is `r`,
//!
//! ```text
//! G = 1 / (1 + exp(-(1.35 (u - m) / r + 2)))          known = sqrt(P V G)
//! ```
//!
//! Without a support set there is nothing to compare with: then `V` is 1, and `G` is the softmax share of the categories
//! among all names; without either, `known` is `P`.

use std::sync::Arc;

use ndarray::{ArrayView1, ArrayView2, Axis};

use super::ValidParams;
use crate::interrupt;
use crate::linalg::{block_rows, largest, quantile, row_product};
use crate::sus::SupportSet;

/// Interquartile range of a normal distribution, in standard deviations.
const QUARTILES: f64 = 1.35;
/// Standard deviations below the support's median at which `G` is one half.
const SLACK: f64 = 2.0;
/// The smallest range that is not due to rounding.
const MIN_RANGE: f64 = 1e-6;

/// The judge of whether images are of any category.
#[derive(Clone, Debug)]
pub struct Known {
    support_set: Arc<SupportSet>,
    logit_scale: f32,
    /// Below this, an image is rejected.
    reject: f32,
    /// Median and interquartile range of the support rows' `u`; `None` without support rows or negatives.
    usual: Option<(f64, f64)>,
}

impl Known {
    /// By the categories, the support rows and the negatives of a support set. O(M (C + Q) d) with Q negatives.
    pub fn new(support_set: impl Into<Arc<SupportSet>>, params: ValidParams) -> Self {
        let support_set = support_set.into();
        let mut known = Known::restored(support_set, params, None);
        let support_set = &known.support_set;
        if !support_set.is_empty() && !support_set.negatives().is_empty() {
            let sample = support_set.features().select(Axis(0), &support_set.sample());
            let mut odds = known.log_odds(sample.view());
            odds.sort_unstable_by(f64::total_cmp);
            let range = quantile(&odds, 0.75) - quantile(&odds, 0.25);
            known.usual = Some((quantile(&odds, 0.5), range.max(MIN_RANGE)));
        }
        known
    }

    /// From its [`usual`](Self::usual) of the same support set and parameters.
    pub(super) fn restored(
        support_set: Arc<SupportSet>,
        params: ValidParams,
        usual: Option<(f64, f64)>,
    ) -> Self {
        Known { support_set, logit_scale: params.logit_scale, reject: params.reject, usual }
    }

    /// Median and interquartile range of the support rows' `u`.
    pub(super) fn usual(&self) -> Option<(f64, f64)> {
        self.usual
    }

    /// The probability, 0 to 1, that each unit image (N × d) shows any category, from the probability of its best
    /// category and its `V`, N each; `None` for the latter without a support set.
    pub fn of(
        &self,
        queries: ArrayView2<f32>,
        probability: impl IntoIterator<Item = f32>,
        resemblance: Option<&[f32]>,
    ) -> Vec<f32> {
        interrupt::check();
        let has_negatives = !self.support_set.negatives().is_empty();
        let odds = if has_negatives { self.log_odds(queries) } else { Vec::new() };
        let of_row = |(row, probability): (usize, f32)| {
            let resemblance = resemblance.map(|resemblance| f64::from(resemblance[row]));
            let of_names = odds.get(row).map(|&odds| self.share_of_categories(odds));
            match (resemblance, of_names) {
                (None, None) => probability,
                (resemblance, of_names) => {
                    let share = resemblance.unwrap_or(1.0) * of_names.unwrap_or(1.0);
                    (f64::from(probability) * share).sqrt() as f32
                }
            }
        };
        probability.into_iter().enumerate().map(of_row).collect()
    }

    /// Whether an image of this [`of`](Self::of) gets no label.
    pub fn rejects(&self, known: f32) -> bool {
        known < self.reject
    }

    /// Whether there may be images that get no label.
    pub fn may_reject(&self) -> bool {
        self.reject > 0.0
    }

    /// `G`.
    fn share_of_categories(&self, odds: f64) -> f64 {
        let exponent = match self.usual {
            Some((median, range)) => QUARTILES * (odds - median) / range + SLACK,
            None => odds,
        };
        1.0 / (1.0 + (-exponent).exp())
    }

    /// `u` of unit images (N × d).
    fn log_odds(&self, queries: ArrayView2<f32>) -> Vec<f64> {
        let (names, others) = (self.support_set.zeroshot_weights(), self.support_set.negatives());
        let rows = block_rows(names.nrows() + others.nrows(), usize::MAX);
        let mut odds = Vec::with_capacity(queries.nrows());
        for queries in queries.axis_chunks_iter(Axis(0), rows) {
            let (names, others) = (self.support_set.cosines(queries), row_product(queries, others));
            let rows = names.rows().into_iter().zip(others.rows());
            odds.extend(rows.map(|(names, others)| {
                interrupt::check();
                self.log_sum_exp(names) - self.log_sum_exp(others)
            }));
        }
        odds
    }

    /// `logsumexp(s cos)`.
    fn log_sum_exp(&self, cosines: ArrayView1<f32>) -> f64 {
        let scale = f64::from(self.logit_scale);
        let largest = largest(cosines);
        let sum: f64 = cosines.iter().map(|&x| (scale * f64::from(x - largest)).exp()).sum();
        scale * f64::from(largest) + sum.ln()
    }
}

#[cfg(test)]
mod tests {
    use ndarray::arr2;

    use super::*;
    use crate::classifier::ClassifierParams;
    use crate::sus::{SupportError, SupportSetBuilder};

    fn known(negatives: &[[f32; 2]], params: ClassifierParams) -> Result<Known, SupportError> {
        let mut builder = SupportSetBuilder::new(2);
        builder.push_prompt("east", &[1.0, 0.0])?;
        builder.push_prompt("north", &[0.0, 1.0])?;
        for negative in negatives {
            builder.push_negative(negative)?;
        }
        let params = params.check().map_err(|_| SupportError::NotFinite)?;
        Ok(Known::new(builder.finish()?, params))
    }

    #[test]
    fn with_the_names_alone_it_is_the_probability() -> Result<(), SupportError> {
        let known = known(&[], ClassifierParams::START)?;
        let queries = arr2(&[[1.0, 0.0], [0.0, 1.0]]);
        assert_eq!(known.of(queries.view(), [0.25, 0.5], None), [0.25, 0.5]);
        // With a support set, it is the mean of it and the resemblance.
        assert_eq!(known.of(queries.view(), [0.25, 0.5], Some(&[0.25, 0.0])), [0.25, 0.0]);
        Ok(())
    }

    #[test]
    fn negatives_take_their_share() -> Result<(), SupportError> {
        let known = known(&[[-3.0, 0.0]], ClassifierParams { logit_scale: 2.0, ..ClassifierParams::START })?;
        let answers = known.of(arr2(&[[1.0, 0.0], [-1.0, 0.0]]).view(), [1.0, 1.0], None);
        let [up, down] = [2.0f32.exp(), (-2.0f32).exp()];
        let shares = [(up + 1.0) / (up + 1.0 + down), (down + 1.0) / (down + 1.0 + up)];
        for (answer, share) in answers.iter().zip(shares) {
            assert!((answer - share.sqrt()).abs() < 1e-6, "{answers:?}");
        }
        Ok(())
    }

    #[test]
    fn large_scales_do_not_overflow() -> Result<(), SupportError> {
        let params = ClassifierParams { logit_scale: 1e6, ..ClassifierParams::START };
        let known = known(&[[-1.0, 0.0]], params)?;
        let queries = arr2(&[[1.0, 0.0], [-1.0, 0.0]]);
        assert_eq!(known.of(queries.view(), [1.0, 1.0], None), [1.0, 0.0]);
        Ok(())
    }

    #[test]
    fn nothing_is_rejected_unless_asked_for() -> Result<(), SupportError> {
        let never = known(&[[1.0, 0.0]], ClassifierParams::START)?;
        assert!(!never.rejects(0.0));
        let half = known(&[], ClassifierParams { reject: 0.5, ..ClassifierParams::START })?;
        assert!(half.rejects(0.49) && !half.rejects(0.5));
        Ok(())
    }
}
