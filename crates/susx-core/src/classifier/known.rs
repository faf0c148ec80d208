//! Whether an image is of any category at all.
//!
//! With negatives, names of other things, an image competes between the categories and the negatives as between names of
//! any two kinds: `known = Σ_c exp(s cos_c) / (Σ_c exp(s cos_c) + Σ_q exp(s cos_q))`, where `s` is the logit scale, `c`
//! the categories and `q` the negatives. Without negatives, there is nothing else that the image could be of. What is
//! left is how clearly it is of one category rather than of another: the largest zero-shot probability.
//!
//! The support set has no part in it: an image of the pool that shows something else is nearest to the support images
//! that show something else.

use std::sync::Arc;

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, s};

use super::ValidParams;
use crate::interrupt;
use crate::linalg::{block_rows, product};
use crate::sus::SupportSet;

/// The judge of whether images are of any category.
#[derive(Clone, Debug)]
pub struct Known {
    support_set: Arc<SupportSet>,
    logit_scale: f32,
    /// Below this, an image is rejected.
    reject: f32,
}

impl Known {
    /// By the categories and the negatives of a support set.
    pub fn new(support_set: impl Into<Arc<SupportSet>>, params: ValidParams) -> Self {
        Known { support_set: support_set.into(), logit_scale: params.logit_scale, reject: params.reject }
    }

    /// How likely each unit image (N × d) is to be of any category, 0 to 1.
    ///
    /// A product of matrices rounds differently from the product of a single row. So a row whose answer is so near to
    /// the threshold that rounding could move it across is computed again by itself.
    pub fn of(&self, queries: ArrayView2<f32>) -> Vec<f32> {
        let most = block_rows(self.columns(), usize::MAX);
        queries.axis_chunks_iter(Axis(0), most).flat_map(|queries| self.of_block(queries)).collect()
    }

    /// Whether an image of this [`of`](Self::of) gets no label.
    pub fn rejects(&self, known: f32) -> bool {
        known < self.reject
    }

    fn of_block(&self, queries: ArrayView2<f32>) -> Vec<f32> {
        interrupt::check();
        let mut known = self.together(queries);
        if queries.nrows() > 1 && self.reject > 0.0 {
            let rounding = self.rounding();
            for (row, known) in known.iter_mut().enumerate() {
                if (*known - self.reject).abs() <= rounding {
                    let alone = queries.slice(s![row..=row, ..]).to_owned();
                    *known = self.together(alone.view()).first().copied().unwrap_or(*known);
                }
            }
        }
        known
    }

    fn together(&self, queries: ArrayView2<f32>) -> Vec<f32> {
        let names = product(queries, self.support_set.zeroshot_weights());
        let others = product(queries, self.support_set.negatives());
        let rows = names.rows().into_iter().zip(others.rows());
        rows.map(|(names, others)| formula(names, others, self.logit_scale)).collect()
    }

    /// The most that rounding changes an answer. A cosine is off by `d` roundings at worst, and an answer changes by at
    /// most half as much as the logits do.
    fn rounding(&self) -> f32 {
        let cosine = self.support_set.dimensions() as f32 * f32::EPSILON;
        self.logit_scale * (cosine + 8.0 * f32::EPSILON)
    }

    fn columns(&self) -> usize {
        self.support_set.categories().len() + self.support_set.negatives().nrows()
    }
}

/// The formula of this file for the cosines of one image to the categories and to the negatives. The largest logit is
/// subtracted first, so nothing overflows; the sums are in float64.
fn formula(names: ArrayView1<f32>, others: ArrayView1<f32>, logit_scale: f32) -> f32 {
    let largest = |cosines: ArrayView1<f32>| cosines.fold(f32::NEG_INFINITY, |most, &x| most.max(x));
    let top = largest(names).max(largest(others));
    let sum = |cosines: ArrayView1<f32>| -> f64 {
        cosines.iter().map(|&x| (f64::from(logit_scale) * f64::from(x - top)).exp()).sum()
    };
    let (of_names, of_others) = (sum(names), sum(others));
    match others.is_empty() {
        true => (1.0 / of_names) as f32,
        false => (of_names / (of_names + of_others)) as f32,
    }
}

/// The negatives that say most about what an image is not of: those of `candidates` (N × d) that are least like any of
/// the categories (C × d), `count` at most, least first. A candidate with a cosine above `alike` to a category is another
/// name of it and is left out.
pub fn least_alike(
    categories: ArrayView2<f32>,
    candidates: ArrayView2<f32>,
    alike: f32,
    count: usize,
) -> Vec<usize> {
    let mut order: Vec<(f32, usize)> = Vec::with_capacity(candidates.nrows());
    let most = block_rows(categories.nrows(), usize::MAX);
    for block in candidates.axis_chunks_iter(Axis(0), most) {
        let cosines: Array2<f32> = product(block, categories);
        for row in cosines.rows() {
            order.push((row.fold(f32::NEG_INFINITY, |most, &x| most.max(x)), order.len()));
        }
    }
    order.retain(|&(cosine, _)| cosine <= alike);
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    order.into_iter().take(count).map(|(_, index)| index).collect()
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
    fn without_negatives_it_is_the_best_probability() -> Result<(), SupportError> {
        let known = known(&[], ClassifierParams { logit_scale: 2.0, ..ClassifierParams::START })?;
        let answers = known.of(arr2(&[[1.0, 0.0], [0.5f32.sqrt(), 0.5f32.sqrt()], [-1.0, 0.0]]).view());
        let sure = 1.0 / (1.0 + (-2.0f32).exp());
        for (answer, expected) in answers.iter().zip([sure, 0.5, sure]) {
            assert!((answer - expected).abs() < 1e-6, "{answers:?}");
        }
        Ok(())
    }

    #[test]
    fn negatives_take_their_share() -> Result<(), SupportError> {
        let known = known(&[[-3.0, 0.0]], ClassifierParams { logit_scale: 2.0, ..ClassifierParams::START })?;
        let answers = known.of(arr2(&[[1.0, 0.0], [-1.0, 0.0]]).view());
        let [up, down] = [2.0f32.exp(), (-2.0f32).exp()];
        let expected = [(up + 1.0) / (up + 1.0 + down), (down + 1.0) / (down + 1.0 + up)];
        for (answer, expected) in answers.iter().zip(expected) {
            assert!((answer - expected).abs() < 1e-6, "{answers:?}");
        }
        Ok(())
    }

    #[test]
    fn large_scales_do_not_overflow() -> Result<(), SupportError> {
        let params = ClassifierParams { logit_scale: 1e6, ..ClassifierParams::START };
        let known = known(&[[-1.0, 0.0]], params)?;
        assert_eq!(known.of(arr2(&[[1.0, 0.0], [-1.0, 0.0]]).view()), [1.0, 0.0]);
        Ok(())
    }

    #[test]
    fn a_row_has_the_same_verdict_alone_and_in_a_batch() -> Result<(), SupportError> {
        let queries = Array2::from_shape_fn((200, 2), |(i, j)| {
            let angle = i as f32 / 30.0;
            if j == 0 { angle.cos() } else { angle.sin() }
        });
        let plain = known(&[[-1.0, 0.4], [0.2, -1.0]], ClassifierParams::START)?;
        for reject in plain.of(queries.view()).into_iter().step_by(20) {
            let known =
                known(&[[-1.0, 0.4], [0.2, -1.0]], ClassifierParams { reject, ..ClassifierParams::START })?;
            let together = known.of(queries.view());
            for (row, answer) in queries.axis_iter(Axis(0)).zip(together) {
                let alone = known.of(row.insert_axis(Axis(0)));
                assert_eq!(
                    alone.first().map(|&known_alone| known.rejects(known_alone)),
                    Some(known.rejects(answer))
                );
            }
        }
        Ok(())
    }

    #[test]
    fn nothing_is_rejected_unless_asked_for() -> Result<(), SupportError> {
        assert!(!known(&[[1.0, 0.0]], ClassifierParams::START)?.rejects(0.0));
        let half = known(&[], ClassifierParams { reject: 0.5, ..ClassifierParams::START })?;
        assert!(half.rejects(0.49) && !half.rejects(0.5));
        Ok(())
    }

    #[test]
    fn the_least_alike_come_first_and_other_names_do_not_come() {
        let categories = arr2(&[[1.0, 0.0], [0.0, 1.0]]);
        let candidates = arr2(&[[0.0, 1.0], [0.6, 0.8], [-1.0, 0.0], [0.0, -1.0], [-0.6, -0.8]]);
        let found = |count| least_alike(categories.view(), candidates.view(), 0.95, count);
        assert_eq!(found(9), [4, 2, 3, 1]);
        assert_eq!(found(2), [4, 2]);
        assert!(found(0).is_empty());
    }
}
