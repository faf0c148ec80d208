//! Means and covariance of a support set.

use ndarray::{Array1, Array2, ArrayView1, Axis, s};

use super::confidence::Confidence;
use super::discriminant::Discriminant;
use super::precision::Scatter;
use crate::sus::SupportSet;

/// Rows that are wide (float64) in memory at a time.
const BLOCK: usize = 1024;
/// Support rows that weigh as much as the doubt about a category that has any.
const DOUBT: f64 = 4.0;
/// A category whose rows weigh less is one without rows.
const NO_MASS: f64 = 1e-9;
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

/// What the discriminant knows of a support set.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    pub sums: Sums,
    /// How far each row can be trusted, 0 to 1, M.
    trust: Vec<f64>,
    /// How far each category's support can be trusted, 0 to 1, C.
    pub reliability: Vec<f64>,
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
            for start in (0..support_set.len()).step_by(BLOCK) {
                let rows = start..(start + BLOCK).min(support_set.len());
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
}

impl Moments {
    /// Of a support set that is not empty. O(M d (C + min(M, d)) + min(M, d)^3).
    pub fn of(support_set: &SupportSet, logit_scale: f32, ridge: f64) -> Self {
        let confidence = Confidence::of(support_set, logit_scale);
        let mut trust: Vec<f64> = confidence.rows.iter().map(|confidence| confidence.sqrt()).collect();
        let mut sums = Sums::of(support_set, confidence.rows);
        let agrees = agreement(support_set, &sums, ridge);
        if agrees.contains(&false) {
            let mut weights = sums.weights;
            for (row, _) in agrees.into_iter().enumerate().filter(|(_, agrees)| !agrees) {
                (weights[row], trust[row]) = (0.0, 0.0);
            }
            sums = Sums::of(support_set, weights);
        }
        let of_category = |c: usize| {
            let rows = support_set.rows(c);
            reliable(trust[rows.clone()].iter().sum(), rows.len())
        };
        let reliability = (0..sums.mass.len()).map(of_category).collect();
        Moments { sums, trust, reliability, gate: confidence.gate }
    }

    /// The reliability of a category without one of its rows, of which it had `count`.
    pub fn reliability_without(&self, row: usize, category: usize, count: usize) -> f64 {
        let sum = self.reliability[category] * (count as f64 + DOUBT);
        reliable((sum - self.trust[row]).max(0.0), count - 1)
    }
}

/// Whether the discriminant without each row that nobody has labelled gives it the category that it stands for,
/// M. A row that is alone in its category has nobody to be judged by, and one whose category is the only one with
/// rows nothing to be told from.
fn agreement(support_set: &SupportSet, sums: &Sums, ridge: f64) -> Vec<bool> {
    let labelled = support_set.labelled();
    let mut agrees = vec![true; support_set.len()];
    let supported = sums.mass.iter().filter(|&&mass| mass >= NO_MASS).count();
    if sums.scatter.variance().is_none() || supported < 2 {
        return agrees;
    }
    let discriminant = Discriminant::of(sums, ridge);
    let first =
        |row: ArrayView1<f64>| (0..row.len()).fold(0, |best, c| if row[c] > row[best] { c } else { best });
    for start in (0..support_set.len()).step_by(BLOCK) {
        let rows = start..(start + BLOCK).min(support_set.len());
        if labelled[rows.clone()].iter().all(|&is_labelled| is_labelled) {
            continue;
        }
        let own: Vec<usize> = rows.clone().map(|row| support_set.category_of(row)).collect();
        let features = support_set.features().slice(s![rows.clone(), ..]).mapv(f64::from);
        let g = discriminant.without(sums, features.view(), rows.clone(), &own);
        for ((row, g), own) in rows.zip(g.rows()).zip(own) {
            agrees[row] = labelled[row] || !sums.has_others(row, own) || first(g) == own;
        }
    }
    agrees
}

impl Sums {
    /// Whether a category has other rows of any weight than this one.
    pub fn has_others(&self, row: usize, category: usize) -> bool {
        let mass = self.mass[category];
        mass - self.weights[row] > NO_MASS * mass
    }
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
