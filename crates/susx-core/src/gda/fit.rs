//! A discriminant ready to answer.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::Params;
use super::discriminant::Discriminant;
use super::moments::Moments;
use crate::linalg::product;
use crate::sus::SupportSet;

/// The scores of all categories as one affine map of the query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gda {
    /// C x d.
    pub(super) weights: Array2<f32>,
    /// C.
    pub(super) bias: Array1<f32>,
    /// What the names' cosines less their mean are multiplied with, C.
    pub(super) zero_shot: Vec<f32>,
    /// What the discriminant in the range of the cosines is multiplied with, C.
    pub(super) discriminant: Vec<f32>,
    reliability: Vec<f32>,
    /// The length of the longest of `weights`.
    longest: f32,
}

impl Gda {
    /// Of a support set that is not empty, in float64. O(M C d + M d min(M, d) + min(M, d)^3).
    pub fn fit(support_set: &SupportSet, logit_scale: f32, params: Params) -> Self {
        let moments = Moments::of(support_set);
        let discriminant = Discriminant::fit(support_set, &moments, params.ridge.into());
        let reliability = discriminant.reliability(&moments);
        let (scale, lambda) = (f64::from(logit_scale), f64::from(params.lambda));
        let zero_shot: Vec<f64> =
            reliability.iter().map(|r| scale * (1.0 + lambda * (1.0 - r)) / (1.0 + lambda)).collect();
        let shares: Vec<f64> = reliability.iter().map(|r| scale * lambda * r / (1.0 + lambda)).collect();

        let mut weights = support_set.zeroshot_weights().mapv(f64::from);
        let mean = weights.sum_axis(Axis(0)) / weights.nrows() as f64;
        let mut bias = discriminant.bias * discriminant.scale;
        for (c, mut weight) in weights.rows_mut().into_iter().enumerate() {
            weight -= &mean;
            weight *= zero_shot[c];
            weight.scaled_add(shares[c] * discriminant.scale, &discriminant.weights.row(c));
            bias[c] *= shares[c];
        }
        let longest = weights.rows().into_iter().map(|w| w.dot(&w).sqrt()).fold(0.0, f64::max);
        let narrow = |values: &[f64]| values.iter().map(|&x| x as f32).collect();
        Gda {
            weights: weights.mapv(|x| x as f32),
            bias: bias.mapv(|x| x as f32),
            zero_shot: narrow(&zero_shot),
            discriminant: narrow(&shares),
            reliability: narrow(&reliability),
            longest: longest as f32,
        }
    }

    /// How far each category's support is trusted, 0 to 1, C; 0 for one without support.
    pub fn reliability(&self) -> &[f32] {
        &self.reliability
    }

    /// The logits (N x C) of unit queries (N x d). O(N C d).
    pub fn logits(&self, queries: ArrayView2<f32>) -> Array2<f32> {
        product(queries, self.weights.view()) + &self.bias
    }

    /// How far rounding can move two logits of a row towards each other: a product by `d` roundings.
    pub(crate) fn slack(&self, logits: ArrayView1<f32>) -> f32 {
        let size = self.bias.iter().chain(logits).fold(0.0f32, |most, x| most.max(x.abs()));
        2.0 * f32::EPSILON * (self.weights.ncols() as f32 * self.longest + 4.0 * size)
    }

    /// Bytes on the heap.
    pub fn size(&self) -> usize {
        let vectors = [self.zero_shot.len(), self.discriminant.len(), self.reliability.len()];
        (self.weights.len() + self.bias.len() + vectors.iter().sum::<usize>()) * size_of::<f32>()
    }
}
