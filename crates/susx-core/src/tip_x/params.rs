//! The settings of a classifier, checked.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// The numbers of the formula. [`Params::check`] knows their ranges.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Params {
    /// Weight of the cache term.
    pub alpha: f32,
    /// Sharpness of the affinities.
    pub beta: f32,
    /// Weight of the KL term.
    pub gamma: f32,
    /// `T`: softens the category distributions that KL compares. The paper's is 0.5.
    pub temperature: f32,
    /// What CLIP multiplies its cosines with. OpenAI's models learned 100.
    pub logit_scale: f32,
}

/// A setting that the formula cannot be computed with.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ParamError {
    #[error("{name} must be a number from {least} to {most}, not {value}")]
    OutOfRange { name: &'static str, value: f32, least: f32, most: f32 },
    #[error("unknown method \"{0}\"")]
    UnknownMethod(String),
}

/// Of alpha, beta, gamma and lambda. Beyond it sums leave the range of float32, in which infinity less infinity is no
/// number; what anybody uses is some thousand times smaller.
const WEIGHTS: RangeInclusive<f32> = 0.0..=1e6;
/// Of the temperature, the logit scale and the ridge, by which something is divided.
const SCALES: RangeInclusive<f32> = 1e-3..=1e6;

/// Returns a weight if the formula is defined for it.
pub(crate) fn weight(name: &'static str, value: f32) -> Result<f32, ParamError> {
    within(WEIGHTS, name, value)
}

/// Returns a scale if the formula is defined for it.
pub(crate) fn scale(name: &'static str, value: f32) -> Result<f32, ParamError> {
    within(SCALES, name, value)
}

fn within(range: RangeInclusive<f32>, name: &'static str, value: f32) -> Result<f32, ParamError> {
    match range.contains(&value) {
        true => Ok(value),
        false => Err(ParamError::OutOfRange { name, value, least: *range.start(), most: *range.end() }),
    }
}

impl Params {
    /// Returns the parameters if the formula is defined for them.
    pub fn check(self) -> Result<Self, ParamError> {
        weight("alpha", self.alpha)?;
        weight("beta", self.beta)?;
        weight("gamma", self.gamma)?;
        scale("temperature", self.temperature)?;
        scale("logit_scale", self.logit_scale)?;
        Ok(self)
    }
}

impl Default for Params {
    /// The starting values for CLIP's vectors; docs/defaults.md tells how they were chosen.
    fn default() -> Self {
        Params { alpha: 1.0, beta: 5.5, gamma: 3.0, temperature: 0.5, logit_scale: 100.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_the_formula_cannot_use() {
        let good = Params::default();
        assert_eq!(good.check(), Ok(good));
        assert_eq!(Params { alpha: 0.0, beta: 0.0, gamma: 0.0, ..good }.check().map(|p| p.alpha), Ok(0.0));
        for bad in [
            Params { alpha: -1.0, ..good },
            Params { beta: f32::NAN, ..good },
            Params { gamma: f32::INFINITY, ..good },
            Params { alpha: 1e30, ..good },
            Params { temperature: 0.0, ..good },
            Params { temperature: 1e-40, ..good },
            Params { logit_scale: -100.0, ..good },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
