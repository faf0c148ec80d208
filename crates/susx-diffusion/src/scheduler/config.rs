//! The configuration of a scheduler: noise levels, and the rule for a step.

use std::fmt;

/// The supported schedulers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulerKind {
    /// `PNDMScheduler` without Runge-Kutta steps: pseudo linear multistep (arXiv 2202.09778), the default of SD 1.4.
    Pndm,
    /// `DDIMScheduler` with eta 0 (arXiv 2010.02502).
    Ddim,
    /// `EulerDiscreteScheduler` without churn (algorithm 2 of arXiv 2206.00364).
    Euler,
    /// `DPMSolverMultistepScheduler` of algorithm `dpmsolver++`, order 1 or 2 (arXiv 2211.01095).
    DpmSolver,
    /// `EulerAncestralDiscreteScheduler`, which adds noise after every step but the last.
    EulerAncestral,
    /// `LCMScheduler`: consistency sampling of latent consistency models (arXiv 2310.04378), which adds noise after every
    /// step but the last.
    Lcm,
}

impl SchedulerKind {
    /// Every scheduler, with the name of its class in `diffusers`.
    pub const CLASSES: [(&str, SchedulerKind); 6] = [
        ("PNDMScheduler", SchedulerKind::Pndm),
        ("DDIMScheduler", SchedulerKind::Ddim),
        ("EulerDiscreteScheduler", SchedulerKind::Euler),
        ("DPMSolverMultistepScheduler", SchedulerKind::DpmSolver),
        ("EulerAncestralDiscreteScheduler", SchedulerKind::EulerAncestral),
        ("LCMScheduler", SchedulerKind::Lcm),
    ];
}

/// The name of the class in `diffusers`, such as `PNDMScheduler`.
impl fmt::Display for SchedulerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let classes = Self::CLASSES.iter().filter(|(_, kind)| kind == self);
        classes.map(|(name, _)| *name).try_for_each(|name| f.write_str(name))
    }
}

/// What the U-Net predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prediction {
    /// The noise in the latents.
    Epsilon,
    /// The velocity √ᾱ · noise − √(1 − ᾱ) · image (arXiv 2202.00512).
    Velocity,
    /// The latents without noise.
    Sample,
}

/// How the steps are spread over the noise levels of the training (table 2 of arXiv 2305.08891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// From the first level to the last, both included.
    Linspace,
    /// The first level of each interval, plus `steps_offset`.
    Leading,
    /// The last level of each interval.
    Trailing,
}

/// The variance of the noise that each step of the training adds.
#[derive(Clone, Debug, PartialEq)]
pub enum Betas {
    /// It grows linearly.
    Linear {
        /// Variance of the first step.
        start: f64,
        /// Variance of the last step.
        end: f64,
    },
    /// Its square root grows linearly, as in latent diffusion.
    ScaledLinear {
        /// Variance of the first step.
        start: f64,
        /// Variance of the last step.
        end: f64,
    },
    /// The variance of every step.
    Trained(Vec<f64>),
}

/// The checked content of a `scheduler_config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerConfig {
    /// The scheduler.
    pub kind: SchedulerKind,
    /// Number of noise levels in training, T.
    pub train_timesteps: usize,
    /// Variances of the noise in training.
    pub betas: Betas,
    /// What the U-Net predicts.
    pub prediction: Prediction,
    /// Which noise levels the steps use; LCM has its own rule.
    pub spacing: Spacing,
    /// Added to every level under [`Spacing::Leading`].
    pub steps_offset: usize,
    /// The last step ends without any noise (DDIM, PNDM).
    pub set_alpha_to_one: bool,
    /// Clamps the image that a step predicts to ± this value (DDIM, LCM); `None` for no clamping.
    pub clip_sample: Option<f32>,
    /// Shifts the betas so that the last level is pure noise (algorithm 1 of arXiv 2305.08891).
    pub zero_snr: bool,
    /// Uses the noise levels of Karras et al. (equation 5 of arXiv 2206.00364; Euler, DPM-Solver).
    pub karras: bool,
    /// Ends at the sigma of the first level rather than at 0 (Euler, DPM-Solver).
    pub final_sigma_min: bool,
    /// Order of DPM-Solver, 1 or 2.
    pub solver_order: usize,
    /// Uses Heun's rule for DPM-Solver's second order, not the midpoint rule.
    pub heun: bool,
    /// The last step of DPM-Solver is of first order if there are fewer than 15 steps.
    pub lower_order_final: bool,
    /// The last step of DPM-Solver is always of first order.
    pub euler_at_final: bool,
    /// Steps of the solver that an LCM was distilled from. A run takes its levels from theirs.
    pub original_steps: usize,
    /// Factor of LCM's timesteps in the scalings of its boundary condition.
    pub timestep_scaling: f64,
}
