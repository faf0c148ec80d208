//! The parameters of a classifier: one table, from which everything that handles them by name is generated.
//!
//! [`ClassifierParams`] are any numbers; [`ClassifierParams::check`] turns them into [`ValidParams`], which is what a
//! fit takes. [`PartialParams`] hold the values that one source gives (a model's `susx.json`, a call of
//! `alter_classifier`) and leave the others as they are.

use std::ops::{Deref, RangeInclusive};

use serde::{Deserialize, Serialize};

/// Range of the weights. Larger ones overflow float32, where infinity minus infinity is not a number; values in use
/// are about a thousand times smaller.
const WEIGHT: RangeInclusive<f32> = 0.0..=1e6;
/// Range of the parameters that something is divided by.
const SCALE: RangeInclusive<f32> = 1e-3..=1e6;
/// Range of shares.
const SHARE: RangeInclusive<f32> = 0.0..=1.0;

/// A parameter outside its range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{name} must be a number from {min} to {max}, not {value}")]
pub struct ParamError {
    /// Name of the parameter.
    pub name: &'static str,
    /// The value that was given.
    pub value: f32,
    /// Smallest valid value.
    pub min: f32,
    /// Largest valid value.
    pub max: f32,
}

/// Generates the types from one line per parameter: documentation, name, range and starting value. The names are
/// those of `susx.json`, of the columns of `susx.classifier` and of the arguments of `alter_classifier`.
macro_rules! parameters {
    ($($(#[$doc:meta])* $name:ident: $range:ident = $start:expr,)*) => {
        /// The numbers in the methods' formulas, not yet checked.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct ClassifierParams {
            $($(#[$doc])* pub $name: f32,)*
        }

        /// Values for some of the parameters; `None` leaves a parameter as it is.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct PartialParams {
            $($(#[$doc])* pub $name: Option<f32>,)*
        }

        impl ClassifierParams {
            /// The names, in the order of [`values`](Self::values).
            pub const NAMES: [&'static str; COUNT] = [$(stringify!($name)),*];

            /// The starting values for CLIP embeddings; docs/defaults.md and docs/methods.md say how they were chosen.
            pub const START: ClassifierParams = ClassifierParams { $($name: $start),* };

            /// The values, in the order of [`NAMES`](Self::NAMES).
            pub fn values(self) -> [f32; COUNT] {
                [$(self.$name),*]
            }

            /// From values in the order of [`NAMES`](Self::NAMES).
            pub fn from_values(values: [f32; COUNT]) -> Self {
                let [$($name),*] = values;
                ClassifierParams { $($name),* }
            }
        }

        impl PartialParams {
            /// `params` with the values that are given here.
            pub fn apply_to(self, params: ClassifierParams) -> ClassifierParams {
                ClassifierParams { $($name: self.$name.unwrap_or(params.$name)),* }
            }

            /// These values, and those of `other` for parameters that have none here.
            pub fn or(self, other: Self) -> Self {
                PartialParams { $($name: self.$name.or(other.$name)),* }
            }
        }

        /// Number of parameters.
        const COUNT: usize = [$(stringify!($name)),*].len();
        const RANGES: [RangeInclusive<f32>; COUNT] = [$($range),*];
    };
}

parameters! {
    /// Weight of the cache term (`tip-adapter`, `tip-x`).
    alpha: WEIGHT = 1.0,
    /// Sharpness of the affinities in the cache term (`tip-adapter`, `tip-x`).
    beta: WEIGHT = 5.5,
    /// Weight of the KL term (`tip-x`).
    gamma: WEIGHT = 3.0,
    /// Temperature `T` of the category distributions that the KL term compares; 0.5 in the paper (`tip-x`).
    temperature: SCALE = 0.5,
    /// Factor that CLIP multiplies its cosines by; OpenAI's models learned 100 (all methods).
    logit_scale: SCALE = 100.0,
    /// Weight of the discriminant relative to the zero-shot scores (`gda`).
    lambda: WEIGHT = 2.0,
    /// Added to the diagonal of the covariance, as a multiple of its mean (`gda`).
    ridge: SCALE = 3.0,
    /// What logits are divided by before they become probabilities; changes no label (all methods).
    probability_temperature: SCALE = 1.0,
    /// Images that are less likely to be of any category get no label; 0 rejects none (all methods).
    reject: SHARE = 0.0,
    /// Categories that an image shows with at least this probability are its tags.
    tag_threshold: SHARE = 0.5,
}

/// Parameters inside their ranges. Only [`ClassifierParams::check`] makes them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValidParams(ClassifierParams);

impl Deref for ValidParams {
    type Target = ClassifierParams;

    fn deref(&self) -> &ClassifierParams {
        &self.0
    }
}

impl Default for ClassifierParams {
    fn default() -> Self {
        ClassifierParams::START
    }
}

impl ClassifierParams {
    /// The parameters, if all of them are inside their ranges; otherwise an error that names the first that is not.
    pub fn check(self) -> Result<ValidParams, ParamError> {
        for ((name, value), range) in Self::NAMES.into_iter().zip(self.values()).zip(RANGES) {
            if !range.contains(&value) {
                return Err(ParamError { name, value, min: *range.start(), max: *range.end() });
            }
        }
        Ok(ValidParams(self))
    }
}

impl PartialParams {
    /// The same values, if all that are given are inside their ranges.
    pub fn check(self) -> Result<Self, ParamError> {
        self.apply_to(ClassifierParams::START).check().map(|_| self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_the_formula_cannot_use() {
        let good = ClassifierParams::default();
        assert_eq!(good.check(), Ok(ValidParams(good)));
        let zero = ClassifierParams { alpha: 0.0, beta: 0.0, gamma: 0.0, lambda: 0.0, ..good };
        assert_eq!(zero.check().map(|params| params.alpha), Ok(0.0));
        for bad in [
            ClassifierParams { alpha: -1.0, ..good },
            ClassifierParams { beta: f32::NAN, ..good },
            ClassifierParams { gamma: f32::INFINITY, ..good },
            ClassifierParams { alpha: 1e30, ..good },
            ClassifierParams { temperature: 0.0, ..good },
            ClassifierParams { temperature: 1e-40, ..good },
            ClassifierParams { logit_scale: -100.0, ..good },
            ClassifierParams { lambda: -1.0, ..good },
            ClassifierParams { lambda: f32::NAN, ..good },
            ClassifierParams { ridge: 0.0, ..good },
            ClassifierParams { ridge: f32::INFINITY, ..good },
            ClassifierParams { probability_temperature: 0.0, ..good },
            ClassifierParams { reject: 1.5, ..good },
            ClassifierParams { tag_threshold: -0.5, ..good },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn partial_values_override_and_leave_the_rest() {
        let partial = PartialParams { beta: Some(2.0), ridge: Some(0.5), ..PartialParams::default() };
        let expected = ClassifierParams { beta: 2.0, ridge: 0.5, ..ClassifierParams::START };
        assert_eq!(partial.apply_to(ClassifierParams::START), expected);
        assert_eq!(ClassifierParams::from_values(expected.values()), expected);
        let other = PartialParams { beta: Some(9.0), alpha: Some(4.0), ..PartialParams::default() };
        assert_eq!(partial.or(other), PartialParams { alpha: Some(4.0), ..partial });
        let bad = PartialParams { ridge: Some(0.0), ..partial };
        assert_eq!(bad.check().map_err(|error| error.name), Err("ridge"));
    }
}
