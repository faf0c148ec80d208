//! How much the terms of the support set count relative to the names.

use ndarray::{Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::terms::SupportTerms;
use crate::classifier::ValidParams;
use crate::linalg::product;
use crate::method::gated_tip_x::Worth;
use crate::method::gated_tip_x::sharpness::{BLOCK, ROWS};
use crate::sus::{SupportSet, evenly_spaced};

/// How far the likeness must be right beyond chance to count in full, and for the claims to do.
const ENOUGH: f64 = 0.5;
const ENOUGH_FOR_CLAIMS: f64 = 0.25;
/// Rows of a category at which its support counts half.
const DOUBT: f64 = 4.0;
/// Smaller standard deviations are due to rounding.
const MIN_DEVIATION: f64 = 1e-9;
/// The lambda at which the support's terms vary as much as the names' logits.
const EVEN: f32 = 2.0;

/// Factors of the terms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Sizes {
    pub cache: f32,
    pub discriminant: f32,
    pub claims: f32,
}

impl Sizes {
    /// Of a support set that is not empty. O(min(M, 1024) M e).
    pub fn of(support_set: &SupportSet, terms: &SupportTerms, worth: &Worth, params: ValidParams) -> Self {
        let has_others = |row: usize| terms.sums.has_others(row, support_set.category_of(row));
        let rows: Vec<usize> = (0..support_set.len()).filter(|&row| has_others(row)).collect();
        let deviations = if rows.is_empty() {
            // A category of one row has nothing without it, so the rows judge themselves.
            let all: Vec<usize> = (0..support_set.len()).collect();
            mean_deviations(terms, &all, |rows| {
                let likeness = support_set.likeness().select(Axis(0), rows);
                (terms.cache(support_set, likeness.view()).0, terms.discriminant(likeness.view()))
            })
        } else {
            mean_deviations(terms, &rows, |rows| {
                let (cache, discriminant, _) = terms.without(support_set, rows);
                (cache, discriminant)
            })
        };
        let usual = support_set.usual_rows();
        let certainty = usual / (usual + DOUBT);
        let size = f64::from(params.lambda / EVEN)
            * certainty
            * f64::from(params.logit_scale)
            * deviation_of_names(support_set);
        let share = worth.of_all(support_set) * certainty;
        let factor = |share: f64, deviation: f64| match deviation {
            deviation if deviation > MIN_DEVIATION => share / deviation,
            _ => 0.0,
        };
        let (cache, discriminant) = (factor(1.0 - share, deviations.0), factor(share, deviations.1));
        let kappa = beyond_chance(support_set, terms, (cache as f32, discriminant as f32), usual);
        let size = size * (kappa / ENOUGH).min(1.0).powi(2);
        Sizes {
            cache: (size * cache) as f32,
            discriminant: (size * discriminant) as f32,
            claims: (kappa / ENOUGH_FOR_CLAIMS).min(1.0) as f32,
        }
    }
}

/// How often the likeness alone finds the category of a support row, without the row, beyond chance: 0 if the encoder
/// says nothing about these categories, 1 if it always finds them. One standard error is added, so that few rows do not
/// condemn it. 1 if no category has two rows.
fn beyond_chance(
    support_set: &SupportSet,
    terms: &SupportTerms,
    (of_cache, of_discriminant): (f32, f32),
    usual: f64,
) -> f64 {
    let own = |row: usize| support_set.category_of(row);
    let rows = support_set.rows_with_others(ROWS);
    let chance = usual / support_set.len() as f64;
    if rows.is_empty() || chance >= 1.0 {
        return 1.0;
    }
    let mut right = 0;
    for block in rows.chunks(BLOCK) {
        let (cache, discriminant, _) = terms.without(support_set, block);
        let both = cache * of_cache + discriminant * of_discriminant;
        right += block.iter().zip(both.rows()).filter(|&(&row, both)| terms.best(both) == own(row)).count();
    }
    let share = right as f64 / rows.len() as f64;
    let share = share + (share * (1.0 - share) / rows.len() as f64).sqrt();
    ((share - chance) / (1.0 - chance)).max(0.0)
}

/// The standard deviations of cache and discriminant over the categories with support, averaged over evenly spaced rows.
fn mean_deviations(
    terms: &SupportTerms,
    rows: &[usize],
    of: impl Fn(&[usize]) -> (Array2<f32>, Array2<f32>),
) -> (f64, f64) {
    let rows: Vec<usize> = evenly_spaced(rows.len(), ROWS).map(|i| rows[i]).collect();
    let (mut cache, mut discriminant) = (0.0, 0.0);
    for block in rows.chunks(BLOCK) {
        let found = of(block);
        let sum =
            |part: ArrayView2<f32>| part.rows().into_iter().map(|row| terms.deviation(row)).sum::<f64>();
        cache += sum(found.0.view());
        discriminant += sum(found.1.view());
    }
    (cache / rows.len() as f64, discriminant / rows.len() as f64)
}

/// The standard deviation of the cosines to the names over all categories, averaged over the support rows.
fn deviation_of_names(support_set: &SupportSet) -> f64 {
    let (sample, weights) = (support_set.sample(), support_set.zeroshot_weights().mapv(f64::from));
    let mut sum = 0.0;
    for rows in sample.chunks(BLOCK) {
        let features = support_set.features().select(Axis(0), rows).mapv(f64::from);
        sum += product(features.view(), weights.view()).std_axis(Axis(1), 0.0).sum();
    }
    sum / sample.len() as f64
}
