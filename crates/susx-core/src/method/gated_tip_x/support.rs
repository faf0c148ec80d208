//! What the support set is worth.

use serde::{Deserialize, Serialize};

use super::neighbours::{NEIGHBOURS, Neighbourhood, neighbourhoods};
use crate::classifier::ValidParams;
use crate::linalg::quantile;
use crate::method::gda::{self, Trust};
use crate::sus::SupportSet;

/// The neighbours that vote on whether a row shows its category.
const VOTERS: usize = 5;
/// A reliability at which a category's support is fully trusted.
pub(super) const ENOUGH: f64 = 0.5;
/// A category with less reliable support looks absent from the pool.
const LOOKS_ABSENT: f32 = 0.2;
/// Quantiles of the support rows' cosines to their nearest neighbours between which a query becomes known.
const KNOWN: (f64, f64) = (0.35, 0.9);

/// What the support set says about itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::method) struct Worth {
    /// `r_c`: reliability of each category's support, 0 to 1, C; 0 without support.
    pub reliability: Vec<f64>,
    /// The share of each support row in it, for the rows that are looked at.
    pub of_rows: Vec<(usize, f64)>,
    /// `x_c`: how far other categories claim a category's support rows as theirs, 0 to 1, C.
    pub claimed: Vec<f64>,
    /// The cosines to the nearest support row between which a query becomes known.
    pub known: (f64, f64),
    /// Scale of the cosines in the softmax that says which categories a query may belong to.
    pub sharpness: f64,
}

impl Worth {
    /// Of a support set that is not empty.
    pub fn of(support_set: &SupportSet, params: ValidParams) -> Self {
        let Trust { rows: trust, gate: sharpness } = gda::trust(support_set, params);
        let near = neighbourhoods(support_set);
        let of_rows: Vec<(usize, f64)> =
            near.iter().map(|near| (near.row, trust[near.row] * agreement(support_set, near))).collect();
        let reliability = mean_of_categories(support_set, of_rows.iter().copied());
        let claims = near.iter().map(|near| (near.row, claim(support_set, near, &reliability)));
        let mut claimed = mean_of_categories(support_set, claims);
        // If the others' support is reliable, a category that has none is not in the pool.
        let known = known(&near);
        let mut worth = Worth { reliability, of_rows, claimed: Vec::new(), known, sharpness };
        let absent = (worth.of_all(support_set) / ENOUGH).min(1.0);
        for (c, claimed) in claimed.iter_mut().enumerate() {
            if support_set.rows(c).is_empty() {
                *claimed = absent;
            }
        }
        worth.claimed = claimed;
        worth
    }

    /// Mean reliability of the support rows' categories, 0 to 1.
    pub fn of_all(&self, support_set: &SupportSet) -> f64 {
        let rows = |c: usize| support_set.rows(c).len() as f64;
        let sum: f64 = self.reliability.iter().enumerate().map(|(c, r)| r * rows(c)).sum();
        sum / support_set.len() as f64
    }

    /// Reliability of a category without one of its rows.
    pub fn reliability_without(&self, support_set: &SupportSet, row: usize) -> f64 {
        let c = support_set.category_of(row);
        let place = self.of_rows.binary_search_by_key(&row, |&(row, _)| row);
        let (Ok(place), count) = (place, self.of_rows_in(support_set, c)) else { return self.reliability[c] };
        if count < 2 {
            return 0.0;
        }
        (self.reliability[c] * count as f64 - self.of_rows[place].1) / (count - 1) as f64
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        self.of_rows.len() * size_of::<(usize, f64)>()
            + (self.reliability.len() + self.claimed.len()) * size_of::<f64>()
    }

    /// The number of rows of a category that are looked at.
    fn of_rows_in(&self, support_set: &SupportSet, category: usize) -> usize {
        let rows = support_set.rows(category);
        let before = |end: usize| self.of_rows.partition_point(|&(row, _)| row < end);
        before(rows.end) - before(rows.start)
    }
}

/// Reliability of each category's support, 0 to 1, C: the mean over its rows of the probability that names and
/// discriminant give its category, times the share that the row's category has in its neighbours' votes, beside the
/// strongest other one. 1 for labelled images, 0 without support.
pub fn reliability(support_set: &SupportSet, params: ValidParams) -> Vec<f32> {
    if support_set.is_empty() {
        return vec![0.0; support_set.categories().len()];
    }
    Worth::of(support_set, params).reliability.into_iter().map(|r| r as f32).collect()
}

/// Whether a category with this reliability looks as if its support images showed something else.
pub fn looks_absent(reliability: f32) -> bool {
    reliability < LOOKS_ABSENT
}

/// The votes for a row's category, as a share of those for it and for the strongest other one.
fn agreement(support_set: &SupportSet, near: &Neighbourhood) -> f64 {
    if support_set.labelled()[near.row] {
        return 1.0;
    }
    let votes = near.votes(VOTERS, support_set.category_of(near.row), |c| support_set.rows(c).len());
    votes.own as f64 / (votes.own + votes.of_rival) as f64
}

/// How far another category claims a row as its own: a larger category, whose support is reliable, with more votes.
fn claim(support_set: &SupportSet, near: &Neighbourhood, reliability: &[f64]) -> f64 {
    let rows_of = |c: usize| support_set.rows(c).len();
    let category = support_set.category_of(near.row);
    let votes = near.votes(NEIGHBOURS, category, rows_of);
    let Some(rival) = votes.rival.filter(|_| !support_set.labelled()[near.row]) else { return 0.0 };
    let lead = votes.of_rival.saturating_sub(votes.own) as f64 / (NEIGHBOURS - 1) as f64;
    let larger = (1.0 - rows_of(category) as f64 / rows_of(rival) as f64).clamp(0.0, 1.0);
    lead * larger * (reliability[rival] / ENOUGH).min(1.0)
}

/// The mean of some rows' values in each category, C; 0 without any.
fn mean_of_categories(support_set: &SupportSet, values: impl Iterator<Item = (usize, f64)>) -> Vec<f64> {
    let mut sums = vec![(0.0, 0usize); support_set.categories().len()];
    for (row, value) in values {
        let sum = &mut sums[support_set.category_of(row)];
        *sum = (sum.0 + value, sum.1 + 1);
    }
    sums.into_iter().map(|(sum, count)| sum / count.max(1) as f64).collect()
}

/// Quantiles of the cosines to the nearest neighbour.
fn known(near: &[Neighbourhood]) -> (f64, f64) {
    let mut nearest: Vec<f64> = near.iter().map(|near| near.nearest.map_or(1.0, f64::from)).collect();
    nearest.sort_unstable_by(f64::total_cmp);
    (quantile(&nearest, KNOWN.0), quantile(&nearest, KNOWN.1))
}
