//! Multistep consistency sampling (algorithm 1 of arXiv 2303.01469) as latent consistency models use it.
//!
//! The U-Net predicts the image from any level at once. All steps but the last put the image back to the next level with
//! new noise.

use ndarray::{Array4, Zip};

use super::config::{Prediction, SchedulerConfig};
use super::levels::Levels;

#[derive(Clone, Debug)]
pub(super) struct Lcm {
    prediction: Prediction,
    clip_sample: Option<f32>,
    timestep_scaling: f64,
}

/// Standard deviation of the images' latents, in the scalings of the boundary condition.
const SIGMA_DATA: f64 = 0.5;

impl Lcm {
    pub fn new(config: &SchedulerConfig) -> Lcm {
        Lcm {
            prediction: config.prediction,
            clip_sample: config.clip_sample,
            timestep_scaling: config.timestep_scaling,
        }
    }

    /// The standard deviation of the noise that follows the step.
    pub fn noise_after(&self, levels: &Levels, run: usize) -> f64 {
        next_alpha(levels, run).map_or(0.0, |alpha| (1.0 - alpha).sqrt())
    }

    /// The image is a mixture of prediction and latents that at level 0 would be the latents.
    pub fn step(&self, levels: &Levels, run: usize, prediction: &Array4<f32>, latents: &mut Array4<f32>) {
        let timestep = levels.timesteps[run];
        let alpha = levels.alphas_cumprod[timestep as usize];
        let (signal, noise) = (alpha.sqrt() as f32, (1.0 - alpha).sqrt() as f32);
        let scaled = timestep * self.timestep_scaling;
        let variance = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
        let of_latent = (SIGMA_DATA * SIGMA_DATA / variance) as f32;
        let of_image = (scaled / variance.sqrt()) as f32;
        let next_signal = next_alpha(levels, run).map_or(1.0, f64::sqrt) as f32;
        let clip = self.clip_sample.unwrap_or(f32::INFINITY);
        Zip::from(latents).and(prediction).for_each(|latent, &predicted| {
            let image = match self.prediction {
                Prediction::Epsilon => (*latent - noise * predicted) / signal,
                Prediction::Velocity => signal * *latent - noise * predicted,
                Prediction::Sample => predicted,
            };
            *latent = next_signal * (of_image * image.clamp(-clip, clip) + of_latent * *latent);
        });
    }
}

/// ᾱ of the next level; `None` after the last step, which ends without noise.
fn next_alpha(levels: &Levels, run: usize) -> Option<f64> {
    levels.timesteps.get(run + 1).map(|&timestep| levels.alphas_cumprod[timestep as usize])
}
