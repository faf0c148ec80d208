//! Why an image has its label by the discriminant.

use ndarray::{Array1, ArrayView2, s};

use super::discriminant::Discriminant;
use super::moments::{Moments, NO_MASS};
use super::{Gda, Params};
use crate::classifier::{Explanation, Ranked, Weight, top_k};
use crate::linalg::product;
use crate::sus::SupportSet;

/// What it takes to say what one support row does to a score: the fit before its rows were summed.
#[derive(Clone, Debug)]
pub struct Influence {
    discriminant: Discriminant,
    /// Of each row's category, the row's share in the mean, M.
    shares: Vec<f64>,
}

impl Influence {
    /// As [`Gda::fit`].
    pub fn fit(support_set: &SupportSet, logit_scale: f32, params: Params) -> Option<Self> {
        let moments = Moments::of(support_set, logit_scale, params.ridge.into());
        let sums = &moments.sums;
        let share = |(row, weight): (usize, &f64)| match sums.mass[support_set.category_of(row)] {
            mass if mass >= NO_MASS => weight / mass,
            _ => 0.0,
        };
        let shares = sums.weights.iter().enumerate().map(share).collect();
        let discriminant = Discriminant::fit(support_set, &moments, params.ridge.into())?;
        Some(Influence { discriminant, shares })
    }

    /// Bytes on the heap.
    pub fn size(&self) -> usize {
        self.discriminant.size() + self.shares.len() * size_of::<f64>()
    }

    /// What every row of a category adds to the category's discriminant in the range of the cosines, for a
    /// query (d): as the category's mean is a sum over its rows, so is `(x - mu/2) . P mu`.
    fn of_rows(&self, support_set: &SupportSet, query: &Array1<f64>, category: usize) -> Vec<f64> {
        let Discriminant { precision, mean_weight, mean_bias, scale, shift, .. } = &self.discriminant;
        let rows = support_set.rows(category);
        let features = support_set.features().slice(s![rows.clone(), ..]).mapv(f64::from);
        let shares = &self.shares[rows];
        let mut apart = query.clone();
        for (feature, share) in features.rows().into_iter().zip(shares) {
            apart.scaled_add(-0.5 * share, &feature);
        }
        let shared = query.dot(mean_weight) + mean_bias;
        let pulls = precision.apply(features.view()).dot(&apart);
        let shift = shift[category];
        shares.iter().zip(&pulls).map(|(share, pull)| share * (scale * (pull - shared) - shift)).collect()
    }
}

impl Gda {
    /// The `k` best categories of a unit query (1 x d), best first, each with up to `support` rows.
    pub(crate) fn explain(
        &self,
        support_set: &SupportSet,
        influence: Option<&Influence>,
        query: ArrayView2<f32>,
        k: usize,
        support: usize,
    ) -> Vec<Explanation> {
        let parts = self.parts(self.products(query).row(0));
        let wide = query.row(0).mapv(f64::from);
        let explain = |ranked: Ranked| {
            let c = ranked.category;
            let rows = support_set.rows(c);
            let affinities = product(query, support_set.features().slice_move(s![rows.clone(), ..]));
            let pulls = influence.map_or(Vec::new(), |influence| influence.of_rows(support_set, &wide, c));
            let mut weights: Vec<Weight> = rows
                .zip(affinities.iter().zip(pulls))
                .map(|(row, (&affinity, pull))| Weight {
                    row,
                    affinity,
                    contribution: parts.support_factor * pull as f32,
                })
                .collect();
            Weight::keep_best(&mut weights, support);
            Explanation {
                category: c,
                zero_shot: parts.of_names(c),
                cache: 0.0,
                kl: 0.0,
                discriminant: parts.of_support(c),
                reliability: Some(self.reliability()[c]),
                total: ranked.score,
                support: weights,
            }
        };
        top_k(&self.logits(query).row(0).to_vec(), k).into_iter().map(explain).collect()
    }
}
