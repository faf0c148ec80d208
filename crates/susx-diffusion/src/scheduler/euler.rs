//! Euler's method on the probability flow (algorithm 2 of arXiv 2206.00364 without churn).
//!
//! Its latents are image + σ · noise, so their variance is not 1. The U-Net was trained on variance 1 and gets them
//! divided by √(σ² + 1).

use ndarray::{Array4, Zip};

use super::config::{Prediction, SchedulerConfig, Spacing};
use super::levels::Levels;

#[derive(Clone, Debug)]
pub(super) struct Euler {
    prediction: Prediction,
    spacing: Spacing,
}

impl Euler {
    pub fn new(config: &SchedulerConfig) -> Euler {
        Euler { prediction: config.prediction, spacing: config.spacing }
    }

    /// Spacings that begin at the last level begin with pure noise. The leading spacing begins below it.
    pub fn init_noise_sigma(&self, levels: &Levels) -> f64 {
        let most = levels.sigmas.iter().copied().fold(0.0, f64::max);
        match self.spacing {
            Spacing::Linspace | Spacing::Trailing => most,
            Spacing::Leading => (most * most + 1.0).sqrt(),
        }
    }

    pub fn step(&self, levels: &Levels, run: usize, prediction: &Array4<f32>, latents: &mut Array4<f32>) {
        let (sigma, next) = (levels.sigmas[run], levels.sigmas[run + 1]);
        let change = (next - sigma) as f32;
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
