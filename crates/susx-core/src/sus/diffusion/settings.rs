//! What a caller asks of a generator.

use super::config::GeneratorConfig;
use super::error::{GenerateError, Result};
use super::scheduler::Levels;

/// One picture to paint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Painting {
    /// What it is to show. What is over the text encoder's context (77 tokens) is cut off.
    pub prompt: String,
    /// What it is not to show; usually empty. Without guidance it has no effect.
    pub negative_prompt: String,
    /// Where its noise begins, see [`noise`](super::noise): the same seed, prompt and settings give the
    /// same picture, alone or in a batch.
    pub seed: u64,
}

/// How pictures are painted: the same for all of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Steps of the scheduler; the U-Net runs once for each (PNDM: once more).
    pub steps: usize,
    /// Weight w of the prompt against the negative prompt: the prediction is
    /// `negative + w · (prompt − negative)`. At 1 or less the negative prompt is not computed.
    pub guidance_scale: f32,
    /// Rows of pixels, a multiple of 8; `None` for what the model was trained on.
    pub height: Option<u32>,
    /// Columns of pixels, a multiple of 8; `None` for what the model was trained on.
    pub width: Option<u32>,
}

/// The values of the usual Stable Diffusion pipelines.
impl Default for Settings {
    fn default() -> Self {
        Settings { steps: 50, guidance_scale: 7.5, height: None, width: None }
    }
}

/// How far a batch is. Reported before each run of the U-Net, and when all are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepDone {
    /// Runs of the U-Net that are done, from 0.
    pub done: usize,
    /// Runs of the U-Net in all.
    pub of: usize,
}

/// Larger pictures are a typing error, and would need more memory than there is.
const LARGEST_SIDE: u32 = 4096;
/// Nobody guides so strongly; at some point the predictions are no finite numbers any more.
const STRONGEST_GUIDANCE: f32 = 100.0;

impl Settings {
    /// Whether the negative prompt counts.
    pub(super) fn is_guided(&self) -> bool {
        self.guidance_scale > 1.0
    }

    /// Checks the settings for this generator; nothing needs to be loaded. The result is the height and the
    /// width of the pictures, in pixels.
    pub fn check(&self, config: &GeneratorConfig) -> Result<(u32, u32)> {
        let refused = |name: &'static str, reason: String| Err(GenerateError::Setting { name, reason });
        if let Err(reason) = Levels::new(&config.scheduler, self.steps) {
            return refused("steps", reason);
        }
        if !(0.0..=STRONGEST_GUIDANCE).contains(&self.guidance_scale) {
            return refused(
                "guidance_scale",
                format!("expected 0 to {STRONGEST_GUIDANCE}, not {}", self.guidance_scale),
            );
        }
        let (height, width) = config.image_size();
        let size = (self.height.unwrap_or(height), self.width.unwrap_or(width));
        let unit = config.vae_scale_factor();
        for (name, side) in [("height", size.0), ("width", size.1)] {
            if side == 0 || side > LARGEST_SIDE || side % unit != 0 {
                return refused(
                    name,
                    format!("expected a multiple of {unit} up to {LARGEST_SIDE} pixels, not {side}"),
                );
            }
        }
        Ok(size)
    }
}
