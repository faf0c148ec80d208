//! The methods and their names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::tip_x::ParamError;

/// By which formula an image is classified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// CLIP's own logits: the category names alone.
    ZeroShot,
    /// With the cache of Tip-Adapter (Zhang et al., ECCV 2022, training-free variant).
    TipAdapter,
    /// With the cache and the KL term of SuS-X.
    TipX,
    /// A Gaussian discriminant on the support set, as far as each category's support can be trusted.
    Gda,
}

impl Method {
    /// Every method.
    pub const ALL: [Method; 4] = [Method::ZeroShot, Method::TipAdapter, Method::TipX, Method::Gda];

    /// The method of a classifier with a support set where none is asked for. Without one, all are that of
    /// the names.
    pub const fn with_support() -> Method {
        Method::TipX
    }

    /// The name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Method::ZeroShot => "zero-shot",
            Method::TipAdapter => "tip-adapter",
            Method::TipX => "tip-x",
            Method::Gda => "gda",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = ParamError;

    fn from_str(name: &str) -> Result<Self, ParamError> {
        Method::ALL
            .into_iter()
            .find(|method| method.name() == name)
            .ok_or_else(|| ParamError::UnknownMethod(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for method in Method::ALL {
            assert_eq!(method.name().parse::<Method>(), Ok(method));
        }
        assert_eq!("TIP-X".parse::<Method>(), Err(ParamError::UnknownMethod("TIP-X".into())));
    }
}
