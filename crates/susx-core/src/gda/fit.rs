//! A discriminant ready to answer.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, concatenate};
use serde::{Deserialize, Serialize};

use super::Params;
use super::discriminant::Discriminant;
use super::moments::Moments;
use super::params::{POWER, sureness};
use crate::interrupt;
use crate::linalg::{exp, product, range, sum};
use crate::sus::SupportSet;

/// How much surer the scores are than those of the names alone, so that probabilities come true: docs/methods.md
/// has the calibration error.
const SURER: f32 = 1.75;

/// What scores are made of, so that neither the support set nor the names are needed any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gda {
    /// The names and, in the range of their cosines, the discriminants: C x d, one after the other, 2C x d.
    maps: Array2<f32>,
    /// What is added to the discriminants, C.
    bias: Array1<f32>,
    /// `r_c`, C.
    reliability: Vec<f32>,
    /// The scale of the cosines for the softmax that says which categories a query may be of.
    gate: f32,
    /// As it counts here.
    lambda: f32,
    /// `1.75 logit_scale`.
    scale: f32,
    /// The length of the longest of the discriminants' maps, and the largest bias.
    longest: f32,
    largest_bias: f32,
}

/// One query before its score is summed.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    /// `s'_c` and `g'_c`, C.
    names: Vec<f32>,
    discriminant: Vec<f32>,
    /// `r`: how far the categories that the query may be of are supported.
    trust: f32,
    /// `R`: what the support set has to say about this query, beside the 1 of the names.
    say: f32,
    /// What the names and the discriminants are multiplied with.
    name_factor: f32,
    pub support_factor: f32,
}

impl Parts {
    /// The part of a logit that is the name's.
    pub fn of_names(&self, c: usize) -> f32 {
        self.name_factor * self.names[c]
    }

    /// The part of a logit that is the support's: of the discriminant in the range of the cosines.
    pub fn of_support(&self, c: usize) -> f32 {
        self.support_factor * self.discriminant[c]
    }
}

impl Gda {
    /// Of a support set that is not empty, in float64; `None` where it, or the names, tell no two categories
    /// apart. O(M C d + M d min(M, d) + min(M, d)^3).
    pub fn fit(support_set: &SupportSet, logit_scale: f32, params: Params) -> Option<Self> {
        let moments = Moments::of(support_set, logit_scale, params.ridge.into());
        let discriminant = Discriminant::fit(support_set, &moments, params.ridge.into())?;
        let maps = (&discriminant.weights * discriminant.scale).mapv(|x| x as f32);
        let longest = maps.rows().into_iter().map(|w| w.dot(&w).sqrt()).fold(0.0, f32::max);
        let bias = (&discriminant.bias * discriminant.scale - &discriminant.shift).mapv(|x| x as f32);
        let largest_bias = bias.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        Some(Gda {
            // Both have d columns.
            maps: concatenate(Axis(0), &[support_set.zeroshot_weights(), maps.view()]).ok()?,
            bias,
            reliability: moments.reliability.iter().map(|&r| r as f32).collect(),
            gate: moments.gate as f32,
            lambda: params.lambda * sureness(logit_scale, discriminant.range) as f32,
            scale: SURER * logit_scale,
            longest,
            largest_bias,
        })
    }

    /// C.
    fn categories(&self) -> usize {
        self.bias.len()
    }

    /// How far each category's support is trusted, 0 to 1, C; 0 for one without support.
    pub fn reliability(&self) -> &[f32] {
        &self.reliability
    }

    /// The logits (N x C) of unit queries (N x d). O(N C d).
    pub fn logits(&self, queries: ArrayView2<f32>) -> Array2<f32> {
        self.logits_and_slack(queries).0
    }

    /// The logits, and how far rounding can move two logits of each row towards each other.
    pub(crate) fn logits_and_slack(&self, queries: ArrayView2<f32>) -> (Array2<f32>, Vec<f32>) {
        let products = product(queries, self.maps.view());
        let mut logits = Array2::zeros((queries.nrows(), self.categories()));
        let mut slack = Vec::with_capacity(queries.nrows());
        for (products, mut logits) in products.rows().into_iter().zip(logits.rows_mut()) {
            interrupt::check();
            let parts = self.parts(products);
            for (c, logit) in logits.iter_mut().enumerate() {
                *logit = parts.of_names(c) + parts.of_support(c);
            }
            slack.push(self.slack(&parts));
        }
        (logits, slack)
    }

    /// The parts of one query, of its products with all maps (2C).
    pub(super) fn parts(&self, products: ArrayView1<f32>) -> Parts {
        let (cosines, discriminant) = products.split_at(Axis(0), self.categories());
        let cosines = cosines.to_vec();
        let mean = sum(&cosines) / cosines.len() as f32;
        let largest = cosines.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut shares: Vec<f32> = cosines.iter().map(|cosine| self.gate * (cosine - largest)).collect();
        exp(&mut shares);
        let trusted: f32 = shares.iter().zip(&self.reliability).map(|(share, r)| share * r).sum();
        let trust = trusted / sum(&shares);
        let say = self.lambda * trust.powi(POWER);
        let name_factor = self.scale / (1.0 + say);
        Parts {
            trust,
            say,
            name_factor,
            support_factor: name_factor * say,
            names: cosines.iter().map(|cosine| cosine - mean).collect(),
            discriminant: (&discriminant + &self.bias).to_vec(),
        }
    }

    /// The products of a query with all maps, 1 x 2C.
    pub(super) fn products(&self, query: ArrayView2<f32>) -> Array2<f32> {
        product(query, self.maps.view())
    }

    /// A product is off by `d` roundings at worst. That moves the parts of a logit and, through the softmax, the
    /// support's say, which weighs the same for all categories: of two logits that are nearly equal it moves the
    /// difference by no more than the names differ, times its own relative error.
    fn slack(&self, parts: &Parts) -> f32 {
        let product = self.maps.ncols() as f32 * f32::EPSILON;
        let of_parts = 2.0 * product * (2.0 + parts.say * self.longest);
        let of_say = if parts.trust > 0.0 {
            let change = (1.0 + 2.0 * self.gate * product / parts.trust).powi(POWER) - 1.0;
            let (names, discriminant) = (range(&parts.names), range(&parts.discriminant));
            change * ((1.0 + change) * (names.1 - names.0)).min(parts.say * (discriminant.1 - discriminant.0))
        } else {
            0.0
        };
        let size = 2.0 + parts.say * (self.longest + self.largest_bias);
        parts.name_factor * (of_parts + of_say + 8.0 * f32::EPSILON * size)
    }

    /// Bytes on the heap.
    pub fn size(&self) -> usize {
        (self.maps.len() + self.bias.len() + self.reliability.len()) * size_of::<f32>()
    }
}
