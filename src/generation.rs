//! How a call's images are to be generated.

use std::borrow::Cow;

use susx_server::protocol::ImageRequest;

use crate::limits;
use crate::pg::error::{Error, Result};

/// The parameters that all images of a call share.
#[derive(Clone, Debug, Default)]
pub struct GenerationParams {
    pub steps: u32,
    pub guidance_scale: f32,
    /// Empty for none.
    pub negative_prompt: String,
    /// In pixels; `None` for the generator's own.
    pub width: Option<u32>,
    pub height: Option<u32>,
}

impl GenerationParams {
    /// Checks what is the same for every generator. The generator checks the rest.
    pub fn new(
        guidance_scale: Option<f64>,
        steps: Option<i32>,
        negative_prompt: Option<&str>,
    ) -> Result<Self> {
        let steps = limits::count(Error::required(steps, "steps")?, "steps", limits::STEPS)?;
        let guidance_scale = Error::required(guidance_scale, "guidance_scale")?;
        if !guidance_scale.is_finite() || guidance_scale < 0.0 {
            let message =
                format!("guidance_scale must be a finite number of at least 0, not {guidance_scale}");
            return Err(Error::argument(message));
        }
        let negative_prompt = negative_prompt.unwrap_or_default();
        limits::check_bytes("negative_prompt", limits::TEXT_BYTES, negative_prompt.len())?;
        Ok(GenerationParams {
            steps: u32::try_from(steps).unwrap_or(u32::MAX),
            guidance_scale: guidance_scale as f32,
            negative_prompt: negative_prompt.to_owned(),
            ..GenerationParams::default()
        })
    }

    /// The request for an image of a prompt, whose initial noise is that of `seed`.
    pub fn request(&self, prompt: &str, seed: i64) -> ImageRequest<'static> {
        ImageRequest {
            prompt: Cow::Owned(prompt.to_owned()),
            negative_prompt: Cow::Owned(self.negative_prompt.clone()),
            seed: seed.cast_unsigned(),
            steps: self.steps,
            guidance_scale: self.guidance_scale,
            width: self.width,
            height: self.height,
        }
    }
}
