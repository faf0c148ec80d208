//! Means and covariance of a support set.

use ndarray::{Array1, Array2, Axis, s};

use super::confidence::Confidence;
use super::discriminant::Discriminant;
use super::precision::Scatter;
use crate::interrupt;
use crate::linalg::{block_rows, product};
use crate::sus::SupportSet;

/// Rows that are wide (float64) in memory at a time, at most.
const BLOCK: usize = 1024;
/// How much surer than the names alone they are together with the support set, when they judge an image.
const SHARPER: f64 = 2.0;
/// How far what the support set prefers is taken off, for each share of its images that is likely wrong.
const SETTLING: f64 = 2.0;
/// Support rows that weigh as much as the doubt about a category that has any.
const DOUBT: f64 = 4.0;
/// A category whose rows weigh less is one without rows.
pub(super) const NO_MASS: f64 = 1e-9;
/// A category looks absent from a pool if its images can be trusted less, on average.
const ABSENT: f64 = 1.0 / 3.0;

/// Weighted sums over a support set.
#[derive(Clone, Debug)]
pub(super) struct Sums {
    /// M.
    pub weights: Vec<f64>,
    /// The sum of each category's weights, C.
    pub mass: Vec<f64>,
    /// Of each category the weighted mean of its rows, C x d; of one without rows that of all rows.
    pub means: Array2<f64>,
    /// The covariance within the categories.
    pub scatter: Scatter,
}

/// What the names alone say of a support set, whatever the ridge.
#[derive(Clone, Debug)]
pub(super) struct ByNames {
    sums: Sums,
    /// The names' own probability of each row's category, M.
    probabilities: Vec<f64>,
    gate: f64,
}

/// What the discriminant knows of a support set.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    pub sums: Sums,
    /// How likely each row is of its category, 0 to 1, M.
    trust: Vec<f64>,
    /// How far each category's support can be trusted, 0 to 1, C.
    pub reliability: Vec<f64>,
    /// How far what the support set prefers a category by says nothing, 0 to 1: 0 where all is labelled or
    /// certain.
    pub unsettled: f64,
    /// The scale of the cosines for the softmax that says which categories a query may be of.
    pub gate: f64,
}

impl Sums {
    /// O(M d min(M, d)).
    fn of(support_set: &SupportSet, weights: Vec<f64>) -> Self {
        let (categories, dimensions) = support_set.zeroshot_weights().dim();
        let mut means = Array2::<f64>::zeros((categories, dimensions));
        let mut overall = Array1::<f64>::zeros(dimensions);
        let mut mass = vec![0.0; categories];
        for (c, mut sum) in means.rows_mut().into_iter().enumerate() {
            let rows = support_set.rows(c);
            let features = support_set.features().slice_move(s![rows.clone(), ..]);
            for (row, feature) in rows.zip(features.rows()) {
                interrupt::check();
                sum.zip_mut_with(&feature, |sum, &x| *sum += weights[row] * f64::from(x));
                mass[c] += weights[row];
            }
            overall += &sum;
        }
        overall /= mass.iter().sum::<f64>().max(NO_MASS);
        for (mut mean, &mass) in means.rows_mut().into_iter().zip(&mass) {
            if mass < NO_MASS {
                mean.assign(&overall);
            } else {
                mean /= mass;
            }
        }
        let scatter = Scatter::of(dimensions, support_set.len(), |add| {
            let most = block_rows(dimensions, BLOCK);
            for start in (0..support_set.len()).step_by(most) {
                interrupt::check();
                let rows = start..(start + most).min(support_set.len());
                let mut block = support_set.features().slice(s![rows.clone(), ..]).mapv(f64::from);
                for (mut x, row) in block.axis_iter_mut(Axis(0)).zip(rows) {
                    x -= &means.row(support_set.category_of(row));
                    x *= weights[row].sqrt();
                }
                add(block);
            }
        });
        Sums { weights, mass, means, scatter }
    }

    /// Whether a category would have rows without this one.
    pub fn has_others(&self, row: usize, category: usize) -> bool {
        self.mass[category] - self.weights[row] >= NO_MASS
    }
}

impl ByNames {
    /// Of a support set that is not empty. O(M d (C + min(M, d))).
    pub fn of(support_set: &SupportSet, logit_scale: f32) -> Self {
        let Confidence { rows, probabilities, gate } = Confidence::of(support_set, logit_scale);
        ByNames { sums: Sums::of(support_set, rows), probabilities, gate }
    }
}

impl Moments {
    /// Of a support set that is not empty. O(M d (C + min(M, d)) + min(M, d)^3).
    pub fn of(support_set: &SupportSet, logit_scale: f32, ridge: f64) -> Self {
        Self::with(support_set, &ByNames::of(support_set, logit_scale), logit_scale, ridge)
    }

    /// As [`of`](Self::of), for one of several ridges.
    pub fn with(support_set: &SupportSet, by_names: &ByNames, logit_scale: f32, ridge: f64) -> Self {
        let ByNames { sums, probabilities, gate } = by_names;
        let (sums, trust) = match agreement(support_set, sums, logit_scale, ridge) {
            None => (sums.clone(), probabilities.clone()),
            Some(agreement) => {
                let times = |rows: &[f64]| rows.iter().zip(&agreement).map(|(a, b)| a * b).collect();
                (Sums::of(support_set, times(&sums.weights)), times(probabilities))
            }
        };
        let of_category = |c: usize| {
            let rows = support_set.rows(c);
            reliable(trust[rows.clone()].iter().sum(), rows.len())
        };
        let reliability = (0..sums.mass.len()).map(of_category).collect();
        let rows = support_set.len() as f64;
        let unlabelled = support_set.labelled().iter().filter(|&&is_labelled| !is_labelled).count() as f64;
        let wrong = 1.0 - trust.iter().sum::<f64>() / rows;
        let unsettled = unlabelled / rows * (SETTLING * wrong).clamp(0.0, 1.0);
        Moments { sums, trust, reliability, unsettled, gate: *gate }
    }

    /// The reliability of a category without one of its rows, of which it had `count`.
    pub fn reliability_without(&self, row: usize, category: usize, count: usize) -> f64 {
        let sum = self.reliability[category] * (count as f64 + DOUBT);
        reliable((sum - self.trust[row]).max(0.0), count - 1)
    }
}

/// How far the discriminant without each row that nobody has labelled gives it, together with the names, the
/// category that it stands for: the category's share of the softmax of both, M. It is 1 of a row that is alone in
/// its category and has nobody to be judged by. `None` where it is 1 of all: where all are labelled, or nothing is
/// told apart.
fn agreement(support_set: &SupportSet, sums: &Sums, logit_scale: f32, ridge: f64) -> Option<Vec<f64>> {
    let labelled = support_set.labelled();
    let supported = sums.mass.iter().filter(|&&mass| mass >= NO_MASS).count();
    if sums.scatter.variance().is_none() || supported < 2 {
        return None;
    }
    let judged: Vec<usize> = (0..support_set.len())
        .filter(|&row| !labelled[row] && sums.has_others(row, support_set.category_of(row)))
        .collect();
    if judged.is_empty() {
        return None;
    }
    let discriminant = Discriminant::of(sums, ridge).in_range(support_set, sums)?;
    let scale = SHARPER * f64::from(logit_scale);
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

/// Of `count` rows: how far they can be trusted on average, times how far so many can be.
fn reliable(trust: f64, count: usize) -> f64 {
    // (trust / count) * (count / (count + doubt)). The sum of no numbers is -0, which SQL would show.
    if count == 0 { 0.0 } else { trust / (count as f64 + DOUBT) }
}

/// How far each category's support can be trusted, 0 to 1, C; 0 for one without support. O(M d (C + min(M, d))
/// + min(M, d)^3).
pub fn reliability(support_set: &SupportSet, logit_scale: f32, params: super::Params) -> Vec<f32> {
    if support_set.is_empty() {
        return vec![0.0; support_set.categories().len()];
    }
    let moments = Moments::of(support_set, logit_scale, params.ridge.into());
    moments.reliability.into_iter().map(|r| r as f32).collect()
}

/// Whether a category with so many support images looks as if none of them shows it.
pub fn looks_absent(reliability: f32, count: usize) -> bool {
    count == 0 || f64::from(reliability) < ABSENT * reliable(count as f64, count)
}
