//! How much the support set counts for a query.

use ndarray::{ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use super::support::{ENOUGH, Worth};
use super::typical::OwnCosines;
use crate::classifier::{Contribution, Explanation, Ranked};
use crate::interrupt;
use crate::linalg::{exp, largest, sum};
use crate::sus::SupportSet;

/// Standard deviations above a category's mean cosine at which a query counts as half familiar, and the width of that
/// transition: nine tenths of the images of a category that the support shows are below.
const THRESHOLD: f64 = 1.0;
const WIDTH: f64 = 0.3;
/// The same for the resemblance: standard deviations below the mean.
const SLACK: f64 = 2.0;
const SLACK_WIDTH: f64 = 0.5;
/// Largest exponent of the transitions.
const MAX_EXPONENT: f64 = 40.0;
/// Powers of the familiarity and of the trust in the gate.
const FAMILIARITY_POWER: i32 = 4;
const TRUST_POWER: i32 = 2;
/// A gate that is less open counts as closed: what it lets in is less than a rounding error.
const CLOSED: f32 = 1e-6;

/// The gate of a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GateReading {
    /// `g`: weight of the support set's terms, 0 to 1.
    pub gate: f32,
    /// `V`: how far the query resembles the names of the categories that it may belong to no more than their support
    /// images do, 0 to 1. A query that is more like a name than all of the name's own support images is probably of a
    /// category that they do not show.
    pub familiarity: f32,
    /// `rho`: how reliable the support of these categories is, 0 to 1.
    pub trust: f32,
    /// Whether the query is as close to the names of these categories as their support images are, 0 to 1.
    pub resemblance: f32,
}

/// The gate, fitted on a support set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::method) struct Gate {
    /// Scale of the cosines in the softmax that says which categories a query may belong to.
    sharpness: f64,
    own_cosines: OwnCosines,
    /// `r_c`, C.
    reliability: Vec<f64>,
}

/// A support row that is left out of the fit.
#[derive(Clone, Copy, Debug)]
struct LeftOut {
    category: usize,
    /// Reliability of its category without it.
    reliability: f64,
}

/// Numbers of one query for each category, overwritten by the next query.
#[derive(Debug)]
struct Scratch {
    shares: Vec<f32>,
    novelty: Vec<f32>,
    unlikeness: Vec<f32>,
}

impl Gate {
    /// For a support set that is not empty. O(M d).
    pub fn fit(support_set: &SupportSet, worth: &Worth) -> Self {
        Gate {
            sharpness: worth.sharpness,
            own_cosines: OwnCosines::of(support_set),
            reliability: worth.reliability.clone(),
        }
    }

    /// Reliability of a category's support, 0 to 1.
    fn reliability(&self, category: usize) -> f32 {
        self.reliability[category] as f32
    }

    /// The explanation of a category that was ranked with this reading, from its terms and what each support row adds, of
    /// which `support` rows are shown.
    pub fn explanation(
        &self,
        ranked: Ranked,
        reading: GateReading,
        terms: Vec<(&'static str, f32)>,
        mut contributions: Vec<Contribution>,
        support: usize,
    ) -> Explanation {
        Contribution::keep_largest(&mut contributions, support);
        Explanation {
            category: ranked.category,
            terms,
            reliability: Some(self.reliability(ranked.category)),
            gate: Some(reading),
            total: ranked.score,
            support: contributions,
        }
    }

    /// The gates of queries with these cosines to the zeroshot weights (n × C). O(n C).
    pub fn read(&self, cosines: ArrayView2<f32>) -> Vec<GateReading> {
        let mut scratch = self.scratch();
        cosines.rows().into_iter().map(|cosines| self.of_query(cosines, None, &mut scratch)).collect()
    }

    /// The gates of support rows (n × d, with their indices), each as the fit without that row would have it.
    pub fn read_without(
        &self,
        support_set: &SupportSet,
        worth: &Worth,
        features: ArrayView2<f32>,
        rows: impl Iterator<Item = usize>,
    ) -> Vec<GateReading> {
        let mut scratch = self.scratch();
        let cosines = support_set.cosines(features);
        let of_row = |(cosines, row): (ArrayView1<f32>, usize)| {
            let left_out = LeftOut {
                category: support_set.category_of(row),
                reliability: worth.reliability_without(support_set, row),
            };
            self.of_query(cosines, Some(left_out), &mut scratch)
        };
        cosines.rows().into_iter().zip(rows).map(of_row).collect()
    }

    fn scratch(&self) -> Scratch {
        let zeros = vec![0.0; self.reliability.len()];
        Scratch { shares: zeros.clone(), novelty: zeros.clone(), unlikeness: zeros }
    }

    /// The gate of one query from its cosines to the names (C).
    fn of_query(
        &self,
        cosines: ArrayView1<f32>,
        left_out: Option<LeftOut>,
        Scratch { shares, novelty, unlikeness }: &mut Scratch,
    ) -> GateReading {
        interrupt::check();
        let largest = f64::from(largest(cosines));
        for (share, &s) in shares.iter_mut().zip(cosines) {
            *share = (self.sharpness * (f64::from(s) - largest)) as f32;
        }
        exp(shares);
        let categories = novelty.iter_mut().zip(unlikeness.iter_mut());
        for (c, ((novelty, unlikeness), &s)) in categories.zip(cosines).enumerate() {
            let s = f64::from(s);
            let deviations = match left_out {
                Some(left_out) if left_out.category == c => self.own_cosines.deviations_without(c, s),
                _ => self.own_cosines.deviations(c, s),
            };
            let exponent = |x: f64| x.clamp(-MAX_EXPONENT, MAX_EXPONENT) as f32;
            *novelty = exponent((deviations - THRESHOLD) / WIDTH);
            *unlikeness = exponent(-(deviations + SLACK) / SLACK_WIDTH);
        }
        exp(novelty);
        exp(unlikeness);
        let all = sum(shares);
        for (unlikeness, share) in unlikeness.iter_mut().zip(shares.iter()) {
            *unlikeness = share / (1.0 + *unlikeness);
        }
        let resemblance = sum(unlikeness) / all;
        // The familiar part of each share: all of it where the support is labelled.
        for (c, (share, novelty)) in shares.iter_mut().zip(novelty).enumerate() {
            *share *= 1.0 - self.own_cosines.unlabelled(c) * (*novelty / (1.0 + *novelty));
        }
        let familiarity = sum(shares) / all;
        // And the trusted part of that.
        for (c, (share, &reliability)) in shares.iter_mut().zip(&self.reliability).enumerate() {
            *share *= match left_out {
                Some(left_out) if left_out.category == c => left_out.reliability as f32,
                _ => reliability as f32,
            };
        }
        let trust = sum(shares) / all;
        let trusted = (trust / ENOUGH as f32).min(1.0);
        let gate = familiarity.powi(FAMILIARITY_POWER) * trusted.powi(TRUST_POWER);
        GateReading { gate: if gate < CLOSED { 0.0 } else { gate }, familiarity, trust, resemblance }
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        self.reliability.len() * size_of::<f64>() + self.own_cosines.size()
    }
}
