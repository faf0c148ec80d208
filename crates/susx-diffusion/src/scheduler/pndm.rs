//! Pseudo linear multistep (PLMS, arXiv 2202.09778): Adams-Bashforth on the predicted noise.
//!
//! The first steps have few earlier predictions and are of lower order. The second run repeats the first step with the
//! mean of the predictions at its start and its end, so there is one more run than steps.

use std::collections::VecDeque;

use ndarray::{Array4, Zip};

use super::config::{Prediction, SchedulerConfig};
use super::levels::Levels;

#[derive(Clone, Debug)]
pub(super) struct Pndm {
    prediction: Prediction,
    /// Distance to the next noise level. With other spacings than the usual one, the steps may have another distance.
    stride: usize,
    set_alpha_to_one: bool,
    /// Earlier predictions, the newest last.
    before: VecDeque<Array4<f32>>,
    /// The initial latents.
    first: Option<Array4<f32>>,
}

/// Number of predictions that a step combines.
const ORDER: usize = 4;

impl Pndm {
    /// Repeats the second timestep of `levels`, for the second run of the first step.
    pub fn new(config: &SchedulerConfig, levels: &mut Levels) -> Pndm {
        let steps = levels.timesteps.len();
        if steps > 1 {
            levels.timesteps.insert(1, levels.timesteps[1]);
        }
        Pndm {
            prediction: config.prediction,
            stride: config.train_timesteps / steps,
            set_alpha_to_one: config.set_alpha_to_one,
            before: VecDeque::new(),
            first: None,
        }
    }

    pub fn step(&mut self, levels: &Levels, run: usize, prediction: Array4<f32>, latents: &mut Array4<f32>) {
        let timestep = levels.timesteps[run] as usize;
        let (at, next) = match run {
            1 => (timestep + self.stride, Some(timestep)),
            _ => (timestep, timestep.checked_sub(self.stride)),
        };
        let combined = match run {
            0 => {
                self.first = Some(latents.clone());
                self.remember(prediction);
                self.combined(&[1.0])
            }
            1 => {
                if let Some(first) = self.first.take() {
                    latents.assign(&first);
                }
                let mut mean = prediction;
                if let Some(before) = self.before.back() {
                    Zip::from(&mut mean).and(before).for_each(|mean, &before| *mean = (*mean + before) / 2.0);
                }
                mean
            }
            _ => {
                self.remember(prediction);
                match self.before.len() {
                    2 => self.combined(&[3.0 / 2.0, -1.0 / 2.0]),
                    3 => self.combined(&[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0]),
                    _ => self.combined(&[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0]),
                }
            }
        };
        let last = levels.alphas_cumprod.len() - 1;
        let alpha = levels.alphas_cumprod[at.min(last)];
        let next = match next {
            Some(next) => levels.alphas_cumprod[next],
            None => levels.last_alpha(self.set_alpha_to_one),
        };
        self.advance(alpha, next, &combined, latents);
    }

    fn remember(&mut self, prediction: Array4<f32>) {
        if self.before.len() == ORDER {
            self.before.pop_front();
        }
        self.before.push_back(prediction);
    }

    /// The weighted sum of earlier predictions. The weights are for the newest first.
    fn combined(&self, weights: &[f32]) -> Array4<f32> {
        let mut newest_first = self.before.iter().rev().zip(weights);
        let mut sum = newest_first.next().map_or_else(Default::default, |(newest, &weight)| newest * weight);
        for (before, &weight) in newest_first {
            sum.scaled_add(weight, before);
        }
        sum
    }

    /// Formula (9) of the paper.
    fn advance(&self, alpha: f64, next: f64, combined: &Array4<f32>, latents: &mut Array4<f32>) {
        let of_latent = (next / alpha).sqrt();
        let denominator = alpha * (1.0 - next).sqrt() + (alpha * (1.0 - alpha) * next).sqrt();
        let of_noise = -(next - alpha) / denominator;
        // Factors that turn a velocity and the latents into noise.
        let (noise_of_predicted, noise_of_latent) = match self.prediction {
            Prediction::Velocity => (alpha.sqrt(), (1.0 - alpha).sqrt()),
            Prediction::Epsilon | Prediction::Sample => (1.0, 0.0),
        };
        let of_latent = (of_latent + of_noise * noise_of_latent) as f32;
        let of_predicted = (of_noise * noise_of_predicted) as f32;
        Zip::from(latents)
            .and(combined)
            .for_each(|latent, &predicted| *latent = of_latent * *latent + of_predicted * predicted);
    }
}
