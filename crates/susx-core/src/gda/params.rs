//! The settings of the discriminant, checked.

use serde::{Deserialize, Serialize};

use crate::tip_x::ParamError;

/// The numbers of the formula.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Params {
    /// Weight of the discriminant beside the names', at least 0.
    pub lambda: f32,
    /// What is added to the covariance's diagonal, as a multiple of its mean; above 0.
    pub ridge: f32,
}

impl Params {
    /// Returns the parameters if the formula is defined for them.
    pub fn check(self) -> Result<Self, ParamError> {
        let Params { lambda, ridge } = self;
        if !lambda.is_finite() || lambda < 0.0 {
            return Err(ParamError::Negative { name: "lambda", value: lambda });
        }
        if !ridge.is_finite() || ridge <= 0.0 {
            return Err(ParamError::NotPositive { name: "ridge", value: ridge });
        }
        Ok(self)
    }
}

impl Default for Params {
    /// The starting values; docs/methods.md tells how they were chosen.
    fn default() -> Self {
        Params { lambda: 3.0, ridge: 3.0 }
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
