//! What a caller asks of a generator.

use super::config::GeneratorConfig;
use super::error::{GenerateError, Result};
use super::scheduler::Levels;

/// One image to generate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInput {
    /// What the image shows. Truncated to the text encoder's context length (77 tokens).
    pub prompt: String,
    /// What the image does not show; usually empty. Has no effect without guidance.
    pub negative_prompt: String,
    /// Seed of the [`noise`](super::noise): the same seed, prompt and settings give the same image, alone or in a
    /// batch.
    pub seed: u64,
}

/// The settings of all images of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Steps of the scheduler. The U-Net runs once for each (PNDM: once more).
    pub steps: usize,
    /// Weight w of the prompt against the negative prompt: the prediction is
    /// `negative + w · (prompt − negative)`. At 1 or less the negative prompt is not computed. A latent consistency
    /// model whose U-Net takes the scale as an input gets it there, and no negative prompt.
    pub guidance_scale: f32,
    /// Rows of pixels, a multiple of 8; `None` for the size that the model was trained on.
    pub height: Option<u32>,
    /// Columns of pixels, a multiple of 8; `None` for the size that the model was trained on.
    pub width: Option<u32>,
}

/// The defaults of the usual Stable Diffusion pipelines.
impl Default for Settings {
    fn default() -> Self {
        Settings { steps: 50, guidance_scale: 7.5, height: None, width: None }
    }
}

/// The progress of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Finished runs of the U-Net.
    pub done: usize,
    /// All runs of the U-Net.
    pub total: usize,
}

/// Limit of an image's height and width, in pixels. Larger ones are typing errors, and would not fit into memory.
const MAX_SIDE: u32 = 4096;
/// Limit of the guidance scale. Far above useful values; much larger ones make the predictions overflow.
const MAX_GUIDANCE_SCALE: f32 = 100.0;

impl Settings {
    /// Whether the negative prompt has an effect.
    pub(super) fn is_guided(&self) -> bool {
        self.guidance_scale > 1.0
    }

    /// Checks the settings for a generator, which need not be loaded. Returns height and width of the images, in
    /// pixels. Every error is a [`GenerateError::Setting`].
    pub fn check(&self, config: &GeneratorConfig) -> Result<(u32, u32)> {
        let refused = |name: &'static str, reason: String| Err(GenerateError::Setting { name, reason });
        if let Err(reason) = Levels::new(&config.scheduler, self.steps) {
            return refused("steps", reason);
        }
        if !(0.0..=MAX_GUIDANCE_SCALE).contains(&self.guidance_scale) {
            return refused(
                "guidance_scale",
                format!("expected 0 to {MAX_GUIDANCE_SCALE}, not {}", self.guidance_scale),
            );
        }
        let (height, width) = config.image_size();
        let size = (self.height.unwrap_or(height), self.width.unwrap_or(width));
        let unit = config.vae_scale_factor();
        for (name, side) in [("height", size.0), ("width", size.1)] {
            if side == 0 || side > MAX_SIDE || side % unit != 0 {
                return refused(
                    name,
                    format!("expected a multiple of {unit} up to {MAX_SIDE} pixels, not {side}"),
                );
            }
        }
        Ok(size)
    }
}
