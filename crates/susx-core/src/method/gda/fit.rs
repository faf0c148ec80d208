//! The fitted discriminant.

use ndarray::{Array1, Array2, ArrayView1};
use serde::{Deserialize, Serialize};

use super::discriminant::Discriminant;
use super::reliability::WeightedSupport;
use super::weighting::{RELIABILITY_POWER, lambda_factor};
use crate::classifier::ValidParams;
use crate::interrupt;
use crate::linalg::{aligned, exp, row_product, sum};
use crate::queries::Queries;
use crate::sus::SupportSet;

/// Factor on `logit_scale` that calibrates the probabilities: docs/methods.md has the calibration error.
const CALIBRATION: f32 = 1.75;

/// The fitted discriminant. It needs neither the support set nor the names, and can be serialized.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gda {
    /// The zeroshot weights, C × d.
    #[serde(with = "crate::as_bytes::matrix")]
    names: Array2<f32>,
    /// The discriminants in the range of the cosines, C × e.
    #[serde(with = "crate::as_bytes::matrix")]
    maps: Array2<f32>,
    /// Added to the discriminants, C.
    bias: Array1<f32>,
    /// `r_c`, C.
    reliability: Vec<f32>,
    /// Scale of the cosines in the softmax that says which categories a query may belong to.
    gate: f32,
    /// `lambda'`.
    lambda: f32,
    /// `1.75 logit_scale`.
    scale: f32,
}

/// The scores of one query, before they are added up.
#[derive(Clone, Debug)]
pub(super) struct QueryScores {
    /// `s'_c`, C.
    names: Vec<f32>,
    /// `g''_c`, C.
    discriminant: Vec<f32>,
    /// Factor on the names' scores.
    name_factor: f32,
    /// Factor on the discriminants.
    pub support_factor: f32,
}

impl QueryScores {
    /// The zero-shot term of a logit.
    pub fn zero_shot(&self, c: usize) -> f32 {
        self.name_factor * self.names[c]
    }

    /// The discriminant term of a logit.
    pub fn discriminant(&self, c: usize) -> f32 {
        self.support_factor * self.discriminant[c]
    }
}

impl Gda {
    /// Fits a support set that is not empty, in float64; `None` if it, or the names, do not separate any two
    /// categories. O(M C d + M d min(M, d) + min(M, d)^3).
    pub fn fit(support_set: &SupportSet, params: ValidParams) -> Option<Self> {
        let support = WeightedSupport::of(support_set, params);
        let discriminant =
            Discriminant::calibrated(support_set, &support.sums, support.debias, params.ridge.into())?;
        let maps = aligned((&discriminant.weights * discriminant.scale).mapv(|x| x as f32).view());
        let bias = (&discriminant.bias * discriminant.scale - &discriminant.shift).mapv(|x| x as f32);
        Some(Gda {
            names: aligned(support_set.zeroshot_weights()),
            maps,
            bias,
            reliability: support.reliability.iter().map(|&r| r as f32).collect(),
            gate: support.gate as f32,
            lambda: params.lambda * lambda_factor(params.logit_scale, discriminant.range) as f32,
            scale: CALIBRATION * params.logit_scale,
        })
    }

    /// The same, with matrices that can be multiplied faster.
    pub(super) fn aligned(mut self) -> Self {
        self.names = aligned(self.names.view());
        self.maps = aligned(self.maps.view());
        self
    }

    /// Reliability of each category's support, 0 to 1, C; 0 for a category without support.
    pub fn reliability(&self) -> &[f32] {
        &self.reliability
    }

    /// The logits (N × C) of queries. O(N C d).
    pub fn logits<'a>(&self, queries: impl Into<Queries<'a>>) -> Array2<f32> {
        let (cosines, discriminants) = self.products(queries.into());
        let mut logits = Array2::zeros(cosines.dim());
        let products = cosines.rows().into_iter().zip(discriminants.rows());
        for ((cosines, discriminants), mut logits) in products.zip(logits.rows_mut()) {
            interrupt::check();
            let scores = self.scores(cosines, discriminants);
            for (c, logit) in logits.iter_mut().enumerate() {
                *logit = scores.zero_shot(c) + scores.discriminant(c);
            }
        }
        logits
    }

    /// The scores of a single query.
    pub(super) fn query_scores(&self, query: Queries) -> QueryScores {
        let (cosines, discriminants) = self.products(query);
        self.scores(cosines.row(0), discriminants.row(0))
    }

    /// The cosines to the names, and the discriminants without their biases, N × C each.
    fn products(&self, queries: Queries) -> (Array2<f32>, Array2<f32>) {
        (
            row_product(queries.features(), self.names.view()),
            row_product(queries.likeness(), self.maps.view()),
        )
    }

    /// The scores of one query from its cosines and its discriminants, C each.
    fn scores(&self, cosines: ArrayView1<f32>, discriminant: ArrayView1<f32>) -> QueryScores {
        let cosines = cosines.to_vec();
        let mean = sum(&cosines) / cosines.len() as f32;
        let largest = cosines.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut shares: Vec<f32> = cosines.iter().map(|cosine| self.gate * (cosine - largest)).collect();
        exp(&mut shares);
        let reliable: f32 = shares.iter().zip(&self.reliability).map(|(share, r)| share * r).sum();
        let reliability = reliable / sum(&shares);
        // `R`: weight of the discriminant; that of the names is 1.
        let weight = self.lambda * reliability.powi(RELIABILITY_POWER);
        let name_factor = self.scale / (1.0 + weight);
        QueryScores {
            name_factor,
            support_factor: name_factor * weight,
            names: cosines.iter().map(|cosine| cosine - mean).collect(),
            discriminant: (&discriminant + &self.bias).to_vec(),
        }
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        (self.names.len() + self.maps.len() + self.bias.len() + self.reliability.len()) * size_of::<f32>()
    }
}
