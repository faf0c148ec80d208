//! The request for a generated image.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Failure, FailureKind};
use crate::limits;

/// An image to generate. Equal requests give equal images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageRequest<'a> {
    #[serde(borrow)]
    pub prompt: Cow<'a, str>,
    /// Describes what the image should not show; may be empty.
    #[serde(borrow)]
    pub negative_prompt: Cow<'a, str>,
    /// Seed of the initial noise.
    pub seed: u64,
    /// Denoising steps, at least 1.
    pub steps: u32,
    /// Weight of the prompt; values up to 1 turn guidance off.
    pub guidance_scale: f32,
    /// Size in pixels; `None` is the generator's default size.
    pub width: Option<u32>,
    pub height: Option<u32>,
}

impl ImageRequest<'_> {
    /// Checks the numbers against [`limits`]; fails with [`FailureKind::Parameter`].
    pub fn check(&self) -> Result<(), Failure> {
        let out_of_range = |name: &str, expected: String, found: String| {
            let message = format!("{name}: expected {expected}, not {found}");
            Err(Failure { kind: FailureKind::Parameter, message, hint: None })
        };
        if !(1..=limits::MAX_STEPS).contains(&self.steps) {
            return out_of_range("steps", format!("1 to {}", limits::MAX_STEPS), self.steps.to_string());
        }
        if !(0.0..=limits::MAX_GUIDANCE_SCALE).contains(&self.guidance_scale) {
            let expected = format!("0 to {}", limits::MAX_GUIDANCE_SCALE);
            return out_of_range("guidance_scale", expected, self.guidance_scale.to_string());
        }
        for (name, side) in [("width", self.width), ("height", self.height)] {
            if side.is_some_and(|side| !(1..=limits::MAX_SIDE).contains(&side)) {
                let found = side.unwrap_or_default().to_string();
                return out_of_range(name, format!("1 to {} pixels", limits::MAX_SIDE), found);
            }
        }
        Ok(())
    }
}
