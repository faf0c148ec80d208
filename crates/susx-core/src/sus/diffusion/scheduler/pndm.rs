//! Pseudo linear multistep (PLMS, arXiv 2202.09778): Adams-Bashforth on the predicted noise.
//!
//! The first steps have fewer predictions before them and are of lower order. The second run repeats the
//! first step with the mean of its prediction and the one at its end: there is one run more than steps.

use std::collections::VecDeque;

use ndarray::{Array4, Zip};

use super::config::{Prediction, SchedulerConfig};
use super::levels::Levels;

#[derive(Clone, Debug)]
pub(super) struct Pndm {
    prediction: Prediction,
    /// Levels between two steps, where the next level is looked up: the spacing may be another.
    stride: usize,
    set_alpha_to_one: bool,
    /// The last predictions, the newest last.
    before: VecDeque<Array4<f32>>,
    /// The latents that the first step began with.
    first: Option<Array4<f32>>,
}

/// Predictions that a step looks at.
const ORDER: usize = 4;

impl Pndm {
    /// Repeats a level of `levels` for the second run of the first step.
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

    /// The weighted sum of the last predictions, the newest first.
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
        // The noise, of a velocity and the latents.
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
