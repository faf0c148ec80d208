//! Schedulers: the noise levels at which the U-Net runs, and how its predictions change the latents.
//!
//! Timesteps, sigmas and steps are those of the class of `diffusers` that `scheduler_config.json` names. Of two of them,
//! noise follows the steps: [`Scheduler::noise_after`].

mod config;
mod ddim;
mod dpm_solver;
mod euler;
mod file;
mod lcm;
mod levels;
mod pndm;

use ndarray::Array4;

pub use config::{Betas, Prediction, SchedulerConfig, SchedulerKind, Spacing};
use ddim::Ddim;
use dpm_solver::DpmSolver;
use euler::Euler;
use lcm::Lcm;
pub use levels::Levels;
use pndm::Pndm;

/// One run from noise to images, for all latents of a batch.
#[derive(Clone, Debug)]
pub struct Scheduler {
    levels: Levels,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    Pndm(Pndm),
    Ddim(Ddim),
    Euler(Euler),
    DpmSolver(DpmSolver),
    Lcm(Lcm),
}

impl Scheduler {
    /// A run of `steps` steps. The error is a sentence about the number of steps.
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Scheduler, String> {
        let mut levels = Levels::new(config, steps)?;
        let rule = match config.kind {
            SchedulerKind::Pndm => Rule::Pndm(Pndm::new(config, &mut levels)),
            SchedulerKind::Ddim => Rule::Ddim(Ddim::new(config, steps)),
            SchedulerKind::Euler | SchedulerKind::EulerAncestral => Rule::Euler(Euler::new(config)),
            SchedulerKind::DpmSolver => Rule::DpmSolver(DpmSolver::new(config)),
            SchedulerKind::Lcm => Rule::Lcm(Lcm::new(config)),
        };
        Ok(Scheduler { levels, rule })
    }

    /// The noise level of each run of the U-Net, as a number of the training's levels.
    pub fn timesteps(&self) -> &[f64] {
        &self.levels.timesteps
    }

    /// The noise levels of the run.
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// Factor of the initial Gaussian noise.
    pub fn init_noise_sigma(&self) -> f32 {
        match &self.rule {
            Rule::Euler(rule) => rule.init_noise_sigma(&self.levels) as f32,
            _ => 1.0,
        }
    }

    /// Factor of the latents as input of the U-Net in its run number `run`, from 0.
    pub fn input_scale(&self, run: usize) -> f32 {
        match &self.rule {
            Rule::Euler(_) => {
                let sigma = self.levels.sigmas[run];
                (1.0 / (sigma * sigma + 1.0).sqrt()) as f32
            }
            _ => 1.0,
        }
    }

    /// Advances the latents by one step. `prediction` is the U-Net's output of its run number `run`. The runs must come
    /// in order. The step is complete once [`noise_after`](Self::noise_after) has been added.
    pub fn step(&mut self, run: usize, prediction: Array4<f32>, latents: &mut Array4<f32>) {
        match &mut self.rule {
            Rule::Pndm(rule) => rule.step(&self.levels, run, prediction, latents),
            Rule::Ddim(rule) => rule.step(&self.levels, run, &prediction, latents),
            Rule::Euler(rule) => rule.step(&self.levels, run, &prediction, latents),
            Rule::DpmSolver(rule) => rule.step(&self.levels, run, prediction, latents),
            Rule::Lcm(rule) => rule.step(&self.levels, run, &prediction, latents),
        }
    }

    /// The standard deviation of the Gaussian noise that is added to the latents after step `run`; 0 for none.
    pub fn noise_after(&self, run: usize) -> f32 {
        match &self.rule {
            Rule::Euler(rule) => rule.noise_after(&self.levels, run) as f32,
            Rule::Lcm(rule) => rule.noise_after(&self.levels, run) as f32,
            Rule::Pndm(_) | Rule::Ddim(_) | Rule::DpmSolver(_) => 0.0,
        }
    }
}
