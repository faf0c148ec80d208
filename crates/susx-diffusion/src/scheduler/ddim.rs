//! DDIM (arXiv 2010.02502) with eta 0: predicts the image, and adds the noise of the next level back to it.

use ndarray::{Array4, Zip};

use super::config::{Prediction, SchedulerConfig};
use super::levels::Levels;

#[derive(Clone, Debug)]
pub(super) struct Ddim {
    prediction: Prediction,
    /// Distance to the next noise level. With other spacings than the usual one, the steps may have another distance.
    stride: usize,
    set_alpha_to_one: bool,
    clip_sample: Option<f32>,
}

impl Ddim {
    pub fn new(config: &SchedulerConfig, steps: usize) -> Ddim {
        Ddim {
            prediction: config.prediction,
            stride: config.train_timesteps / steps,
            set_alpha_to_one: config.set_alpha_to_one,
            clip_sample: config.clip_sample,
        }
    }

    /// Formula (12) of the paper.
    pub fn step(&self, levels: &Levels, run: usize, prediction: &Array4<f32>, latents: &mut Array4<f32>) {
        let timestep = levels.timesteps[run] as usize;
        let alpha = levels.alphas_cumprod[timestep];
        let next = match timestep.checked_sub(self.stride) {
            Some(next) => levels.alphas_cumprod[next],
            None => levels.last_alpha(self.set_alpha_to_one),
        };
        let (signal, noise) = (alpha.sqrt() as f32, (1.0 - alpha).sqrt() as f32);
        let (next_signal, next_noise) = (next.sqrt() as f32, (1.0 - next).sqrt() as f32);
        let clip = self.clip_sample.unwrap_or(f32::INFINITY);
        Zip::from(latents).and(prediction).for_each(|latent, &predicted| {
            let (image, epsilon) = match self.prediction {
                Prediction::Epsilon => ((*latent - noise * predicted) / signal, predicted),
                Prediction::Velocity => {
                    (signal * *latent - noise * predicted, signal * predicted + noise * *latent)
                }
                Prediction::Sample => (predicted, (*latent - signal * predicted) / noise),
            };
            *latent = next_signal * image.clamp(-clip, clip) + next_noise * epsilon;
        });
    }
}
