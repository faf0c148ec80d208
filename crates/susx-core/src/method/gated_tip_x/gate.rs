//! How far the support set may speak about a query.

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::typical::OwnCosines;
use crate::classifier::ValidParams;
use crate::interrupt;
use crate::linalg::{exp, product, sum};
use crate::method::gda::{self, Trust};
use crate::sus::SupportSet;

/// Standard deviations above a category's mean cosine at which a query counts as half familiar, and the width of that
/// transition: nine tenths of the images of a category that the support shows are below.
const THRESHOLD: f32 = 1.0;
const WIDTH: f32 = 0.3;
/// Largest exponent of the transition.
const MAX_EXPONENT: f32 = 40.0;
/// Powers of the familiarity and of the trust in the gate, and the trust from which on it no longer counts.
const FAMILIARITY_POWER: i32 = 4;
const TRUST_POWER: i32 = 3;
const FULL_TRUST: f32 = 0.7;
/// A gate that is less open counts as closed: what it lets in is less than a rounding error.
const CLOSED: f32 = 1e-6;
/// How far the rounding of exponentials to float32 can move a gate.
const ROUNDING: f32 = 1e-4;

/// The gate of a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GateReading {
    /// `g`: weight of the support set's terms, 0 to 1.
    pub gate: f32,
    /// `V`: how far the query resembles the categories that it may belong to no more than their support images do, 0
    /// to 1. A query that is more like a name than all of the name's own support images is probably of a category that
    /// they do not show.
    pub familiarity: f32,
    /// `rho`: how reliable the support of these categories is, 0 to 1.
    pub trust: f32,
}

/// The gate, fitted on a support set.
///
/// The cosines of a query are computed in float64. The gate is steep, so the rounding errors of float32, which depend on
/// how many queries are multiplied together, would give an image different labels alone and in a table.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    /// The zeroshot weights, C × d.
    weights: Array2<f64>,
    /// Scale of the cosines in the softmax that says which categories a query may belong to.
    sharpness: f64,
    own_cosines: OwnCosines,
    /// `r_c`, C.
    reliability: Vec<f32>,
}

impl Gate {
    /// For a support set that is not empty. O(M d (C + min(M, d)) + min(M, d)^3).
    pub fn fit(support_set: &SupportSet, params: ValidParams) -> Self {
        let Trust { reliability, gate: sharpness } = gda::trust(support_set, params);
        Gate {
            weights: support_set.zeroshot_weights().mapv(f64::from),
            sharpness,
            own_cosines: OwnCosines::of(support_set),
            reliability: reliability.into_iter().map(|r| r as f32).collect(),
        }
    }

    /// Reliability of each category's support, 0 to 1, C.
    pub fn reliability(&self) -> &[f32] {
        &self.reliability
    }

    /// How far rounding can move a gate.
    pub fn rounding(&self) -> f32 {
        ROUNDING
    }

    /// The gates of unit queries (n × d). O(n C d).
    pub fn read(&self, queries: ArrayView2<f32>) -> Vec<GateReading> {
        let cosines = product(queries.mapv(f64::from).view(), self.weights.view());
        let mut shares = vec![0.0; self.weights.nrows()];
        let mut novelty = shares.clone();
        cosines.rows().into_iter().map(|cosines| self.of_query(cosines, &mut shares, &mut novelty)).collect()
    }

    /// The gate of one query from its cosines to the names (C). The two vectors (C) are overwritten.
    fn of_query(&self, cosines: ArrayView1<f64>, shares: &mut [f32], novelty: &mut [f32]) -> GateReading {
        interrupt::check();
        let largest = cosines.fold(f64::NEG_INFINITY, |most, &s| most.max(s));
        for (share, s) in shares.iter_mut().zip(cosines) {
            *share = (self.sharpness * (s - largest)) as f32;
        }
        exp(shares);
        for (c, (novelty, &s)) in novelty.iter_mut().zip(cosines).enumerate() {
            let deviations = self.own_cosines.deviations(c, s) as f32;
            *novelty = ((deviations - THRESHOLD) / WIDTH).clamp(-MAX_EXPONENT, MAX_EXPONENT);
        }
        exp(novelty);
        // Shares, the familiar part of them, and the trusted part of that.
        let all = sum(shares);
        for (share, novelty) in shares.iter_mut().zip(novelty) {
            *share /= 1.0 + *novelty;
        }
        let familiarity = sum(shares) / all;
        for (share, reliability) in shares.iter_mut().zip(&self.reliability) {
            *share *= reliability;
        }
        let trust = sum(shares) / all;
        let gate = familiarity.powi(FAMILIARITY_POWER) * (trust / FULL_TRUST).min(1.0).powi(TRUST_POWER);
        GateReading { gate: if gate < CLOSED { 0.0 } else { gate }, familiarity, trust }
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        self.weights.len() * size_of::<f64>()
            + self.reliability.len() * size_of::<f32>()
            + self.own_cosines.size()
    }
}
