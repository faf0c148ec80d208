//! The settings of the discriminant, checked.

use serde::{Deserialize, Serialize};

use crate::tip_x::{ParamError, scale, weight};

/// The numbers of the formula.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Params {
    /// Weight of the discriminant beside the names; it counts for more, or less, where the names are
    /// less, or more, sure than usual.
    pub lambda: f32,
    /// What is added to the covariance's diagonal, as a multiple of its mean.
    pub ridge: f32,
}

impl Params {
    /// Returns the parameters if the formula is defined for them.
    pub fn check(self) -> Result<Self, ParamError> {
        weight("lambda", self.lambda)?;
        scale("ridge", self.ridge)?;
        Ok(self)
    }
}

/// The spread of a row's logits by the names, over the categories, at which lambda counts as it is.
const USUAL_RANGE: f64 = 2.0;
/// With which power of the trust in it the support set's say grows.
pub(super) const POWER: i32 = 3;
/// The most that lambda is multiplied with.
const MOST: f64 = 4.0;

/// What lambda is multiplied with where the names' cosines have this spread: names that are less sure than usual
/// have less to say beside the support set. Never 0.
pub(super) fn sureness(logit_scale: f32, range: f64) -> f64 {
    (USUAL_RANGE / (f64::from(logit_scale) * range)).powi(2).min(MOST)
}

impl Default for Params {
    /// The starting values; docs/methods.md tells how they were chosen.
    fn default() -> Self {
        Params { lambda: 2.0, ridge: 3.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_the_formula_cannot_use() {
        let good = Params::default();
        assert_eq!(good.check(), Ok(good));
        assert!(Params { lambda: 0.0, ..good }.check().is_ok());
        for bad in [
            Params { lambda: -1.0, ..good },
            Params { lambda: f32::NAN, ..good },
            Params { ridge: 0.0, ..good },
            Params { ridge: f32::INFINITY, ..good },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
