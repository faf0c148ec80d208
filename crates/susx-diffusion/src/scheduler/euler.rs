//! Euler's method on the probability flow (algorithm 2 of arXiv 2206.00364 without churn), and its ancestral variant.
//!
//! The ancestral variant steps to a level below the next one, and noise takes the latents up to that.
//!
//! Its latents are image + σ · noise, so their variance is not 1. The U-Net was trained on variance 1 and gets them
//! divided by √(σ² + 1).

use ndarray::{Array4, Zip};

use super::config::{Prediction, SchedulerConfig, SchedulerKind, Spacing};
use super::levels::Levels;

#[derive(Clone, Debug)]
pub(super) struct Euler {
    prediction: Prediction,
    spacing: Spacing,
    is_ancestral: bool,
}

impl Euler {
    pub fn new(config: &SchedulerConfig) -> Euler {
        let is_ancestral = config.kind == SchedulerKind::EulerAncestral;
        Euler { prediction: config.prediction, spacing: config.spacing, is_ancestral }
    }

    /// Spacings that begin at the last level begin with pure noise. The leading spacing begins below it.
    pub fn init_noise_sigma(&self, levels: &Levels) -> f64 {
        let most = levels.sigmas.iter().copied().fold(0.0, f64::max);
        match self.spacing {
            Spacing::Linspace | Spacing::Trailing => most,
            Spacing::Leading => (most * most + 1.0).sqrt(),
        }
    }

    /// The standard deviation of the noise that follows the step.
    pub fn noise_after(&self, levels: &Levels, run: usize) -> f64 {
        let (sigma, next) = (levels.sigmas[run], levels.sigmas[run + 1]);
        match self.is_ancestral {
            true => next * (sigma * sigma - next * next).max(0.0).sqrt() / sigma,
            false => 0.0,
        }
    }

    pub fn step(&self, levels: &Levels, run: usize, prediction: &Array4<f32>, latents: &mut Array4<f32>) {
        let (sigma, next) = (levels.sigmas[run], levels.sigmas[run + 1]);
        let noise = self.noise_after(levels, run);
        let change = ((next * next - noise * noise).max(0.0).sqrt() - sigma) as f32;
        // The derivative (latent − image) / σ, from the prediction.
        let (of_latent, of_predicted) = match self.prediction {
            Prediction::Epsilon => (0.0, 1.0),
            Prediction::Velocity => {
                let variance = sigma * sigma + 1.0;
                (sigma / variance, 1.0 / variance.sqrt())
            }
            Prediction::Sample => (1.0 / sigma, -1.0 / sigma),
        };
        let (of_latent, of_predicted) = (of_latent as f32, of_predicted as f32);
        Zip::from(latents).and(prediction).for_each(|latent, &predicted| {
            *latent += change * (of_latent * *latent + of_predicted * predicted);
        });
    }
}
