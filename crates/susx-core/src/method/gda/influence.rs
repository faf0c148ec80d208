//! The influence of single support rows on a score.

use ndarray::{Array1, s};

use super::discriminant::Discriminant;
use super::reliability::WeightedSupport;
use super::sums::{MIN_MASS, Sums};
use crate::classifier::ValidParams;
use crate::sus::SupportSet;

/// The fit before the rows of each category were summed.
#[derive(Clone, Debug)]
pub(in crate::method) struct Influence {
    discriminant: Discriminant,
    /// Share of each row in the mean of its category, M.
    shares: Vec<f64>,
}

impl Influence {
    /// Like [`Gda::fit`](super::Gda::fit).
    pub fn fit(support_set: &SupportSet, params: ValidParams) -> Option<Self> {
        let WeightedSupport { sums, debias, .. } = WeightedSupport::of(support_set, params);
        let discriminant = Discriminant::calibrated(support_set, &sums, debias, params.ridge.into())?;
        Some(Self::new(discriminant, support_set, &sums))
    }

    /// Of a discriminant that was fitted to these sums.
    pub fn new(discriminant: Discriminant, support_set: &SupportSet, sums: &Sums) -> Self {
        let share = |(row, weight): (usize, &f64)| match sums.mass[support_set.category_of(row)] {
            mass if mass >= MIN_MASS => weight / mass,
            _ => 0.0,
        };
        let shares = sums.weights.iter().enumerate().map(share).collect();
        Influence { discriminant, shares }
    }

    /// The share of a row in the mean of its category, 0 to 1.
    pub fn share(&self, row: usize) -> f64 {
        self.shares[row]
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        self.discriminant.size() + self.shares.len() * size_of::<f64>()
    }

    /// What each row of a category adds to the category's discriminant in the range of the cosines, for a query (d). As
    /// the mean of the category is a sum over its rows, so is `(x - mu/2) . P mu`.
    pub fn of_rows(&self, support_set: &SupportSet, query: &Array1<f64>, category: usize) -> Vec<f64> {
        let Discriminant { precision, mean_weight, mean_bias, scale, shift, .. } = &self.discriminant;
        let rows = support_set.rows(category);
        let features = support_set.likeness().slice(s![rows.clone(), ..]).mapv(f64::from);
        let shares = &self.shares[rows];
        // x - mu/2.
        let mut offset = query.clone();
        for (feature, share) in features.rows().into_iter().zip(shares) {
            offset.scaled_add(-0.5 * share, &feature);
        }
        let shared = query.dot(mean_weight) + mean_bias;
        let scores = precision.apply(features.view()).dot(&offset);
        let shift = shift[category];
        shares.iter().zip(&scores).map(|(share, score)| share * (scale * (score - shared) - shift)).collect()
    }
}
