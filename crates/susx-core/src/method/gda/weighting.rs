//! The weight of the discriminant relative to the zero-shot scores.

/// Standard deviation of the zero-shot logits over the categories at which lambda counts as it is.
const USUAL_RANGE: f64 = 2.0;
/// Largest factor on lambda.
const MAX_FACTOR: f64 = 4.0;
/// Power of a query's reliability in the weight of the discriminant.
pub(super) const RELIABILITY_POWER: i32 = 3;

/// Factor on lambda for cosines with this standard deviation over the categories: the less zero-shot CLIP separates the
/// categories, the more the support set counts. Never 0.
pub(super) fn lambda_factor(logit_scale: f32, range: f64) -> f64 {
    (USUAL_RANGE / (f64::from(logit_scale) * range)).powi(2).min(MAX_FACTOR)
}
