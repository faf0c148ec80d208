//! The settings of a classifier, checked.

use serde::{Deserialize, Serialize};

/// The numbers of the formula.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Params {
    /// Weight of the cache term, at least 0.
    pub alpha: f32,
    /// Sharpness of the affinities, at least 0.
    pub beta: f32,
    /// Weight of the KL term, at least 0.
    pub gamma: f32,
    /// `T`: softens the category distributions that KL compares; above 0. The paper's is 0.5.
    pub temperature: f32,
    /// What CLIP multiplies its cosines with; above 0. OpenAI's models learned 100.
    pub logit_scale: f32,
}

/// A setting that the formula cannot be computed with.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ParamError {
    #[error("{name} must be a finite number of at least 0, not {value}")]
    Negative { name: &'static str, value: f32 },
    #[error("{name} must be a finite number above 0, not {value}")]
    NotPositive { name: &'static str, value: f32 },
    #[error("unknown method \"{0}\"")]
    UnknownMethod(String),
}

impl Params {
    /// Returns the parameters if the formula is defined for them.
    pub fn check(self) -> Result<Self, ParamError> {
        for (name, value) in [("alpha", self.alpha), ("beta", self.beta), ("gamma", self.gamma)] {
            if !value.is_finite() || value < 0.0 {
                return Err(ParamError::Negative { name, value });
            }
        }
        for (name, value) in [("temperature", self.temperature), ("logit_scale", self.logit_scale)] {
            if !value.is_finite() || value <= 0.0 {
                return Err(ParamError::NotPositive { name, value });
            }
        }
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
            Params { temperature: 0.0, ..good },
            Params { logit_scale: -100.0, ..good },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
