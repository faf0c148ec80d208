//! DPM-Solver++ (arXiv 2211.01095): multistep of the first or second order on the predicted image.

use ndarray::{Array4, Zip};

use super::config::{Prediction, SchedulerConfig};
use super::levels::Levels;

#[derive(Clone, Debug)]
pub(super) struct DpmSolver {
    prediction: Prediction,
    order: usize,
    heun: bool,
    lower_order_final: bool,
    euler_at_final: bool,
    final_sigma_min: bool,
    /// The image that the last step predicted.
    before: Option<Array4<f32>>,
}

/// With `lower_order_final`, the last step is of first order if there are fewer steps than this.
const MANY_STEPS: usize = 15;

/// A noise level in the notation of the paper.
#[derive(Clone, Copy)]
struct Level {
    alpha: f64,
    sigma: f64,
    /// Half of the logarithm of the signal-to-noise ratio; infinite where there is no noise.
    lambda: f64,
}

impl Level {
    fn of(sigma: f64) -> Level {
        let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
        Level { alpha, sigma: sigma * alpha, lambda: -sigma.ln() }
    }
}

impl DpmSolver {
    pub fn new(config: &SchedulerConfig) -> DpmSolver {
        DpmSolver {
            prediction: config.prediction,
            order: config.solver_order,
            heun: config.heun,
            lower_order_final: config.lower_order_final,
            euler_at_final: config.euler_at_final,
            final_sigma_min: config.final_sigma_min,
            before: None,
        }
    }

    pub fn step(&mut self, levels: &Levels, run: usize, prediction: Array4<f32>, latents: &mut Array4<f32>) {
        let steps = levels.timesteps.len();
        let (from, to) = (Level::of(levels.sigmas[run]), Level::of(levels.sigmas[run + 1]));
        let image = self.image(from, prediction, latents);
        let is_first_order = self.order == 1
            || run + 1 == steps
                && (self.euler_at_final
                    || (self.lower_order_final && steps < MANY_STEPS)
                    || !self.final_sigma_min);
        let h = to.lambda - from.lambda;
        // 1 − exp(−h), which is 1 where h is infinite.
        let gain = to.alpha * -(-h).exp_m1();
        let of_latent = (to.sigma / from.sigma) as f32;
        match self.before.take().filter(|_| !is_first_order) {
            None => Zip::from(latents)
                .and(&image)
                .for_each(|latent, &image| *latent = of_latent * *latent + gain as f32 * image),
            Some(before) => {
                let ratio = h / (from.lambda - Level::of(levels.sigmas[run - 1]).lambda);
                let of_slope = ratio
                    * match self.heun {
                        true => to.alpha * ((-h).exp_m1() / h + 1.0),
                        false => 0.5 * gain,
                    };
                let (gain, of_slope) = (gain as f32, of_slope as f32);
                Zip::from(latents).and(&image).and(&before).for_each(|latent, &image, &before| {
                    *latent = of_latent * *latent + gain * image + of_slope * (image - before);
                });
            }
        }
        self.before = Some(image);
    }

    /// The image that corresponds to a prediction.
    fn image(&self, at: Level, mut prediction: Array4<f32>, latents: &Array4<f32>) -> Array4<f32> {
        let (alpha, sigma) = (at.alpha as f32, at.sigma as f32);
        match self.prediction {
            Prediction::Sample => {}
            Prediction::Epsilon => Zip::from(&mut prediction)
                .and(latents)
                .for_each(|predicted, &latent| *predicted = (latent - sigma * *predicted) / alpha),
            Prediction::Velocity => Zip::from(&mut prediction)
                .and(latents)
                .for_each(|predicted, &latent| *predicted = alpha * latent - sigma * *predicted),
        }
        prediction
    }
}
