//! Why an image has its label.

use ndarray::ArrayView2;

use super::{Answering, Classifier, Method};

/// One category of an explanation: `total` is the category's logit, the sum of the four terms, of which a
/// method has some and the others are 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Index of the category.
    pub category: usize,
    pub zero_shot: f32,
    pub cache: f32,
    pub kl: f32,
    pub discriminant: f32,
    /// How far the category's support was trusted, 0 to 1; `None` for a method that trusts all.
    pub reliability: Option<f32>,
    pub total: f32,
    /// The support rows that raise the logit most, or lower it least, first.
    pub support: Vec<Weight>,
}

/// What one support row adds to a logit. Over all rows of a category this sums to the logit less its
/// zero-shot term.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weight {
    /// Index of the support row.
    pub row: usize,
    /// `A_i`, the cosine of image and support image.
    pub affinity: f32,
    pub contribution: f32,
}

impl Weight {
    /// Leaves the `count` rows that contribute most, first; of equal ones the first rows.
    pub(crate) fn keep_best(weights: &mut Vec<Weight>, count: usize) {
        let best_first =
            |a: &Weight, b: &Weight| b.contribution.total_cmp(&a.contribution).then(a.row.cmp(&b.row));
        if (1..weights.len()).contains(&count) {
            weights.select_nth_unstable_by(count - 1, best_first);
        }
        weights.truncate(count);
        weights.sort_unstable_by(best_first);
    }
}

impl Classifier {
    /// The `k` best categories of a unit query (1 x d), best first, each with up to `support` rows. By TIP-X
    /// a category without support shows the rows of the category whose terms it has.
    pub fn explain(
        &self,
        query: ArrayView2<f32>,
        method: Method,
        k: usize,
        support: usize,
    ) -> Vec<Explanation> {
        match self.answering(method) {
            Answering::Gda(gda) => gda.explain(self.support_set(), self.influence(), query, k, support),
            Answering::TipX(method) => self.tip_x().explain(query, method, k, support),
        }
    }
}
