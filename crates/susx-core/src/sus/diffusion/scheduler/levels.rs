//! The levels of noise: those of the training, and those that so many steps go through.

use super::config::{Betas, SchedulerConfig, SchedulerKind, Spacing};

/// What `rescale_betas_zero_snr` leaves of the signal at the last level, where it must be divided by.
const LEAST_ALPHA: f64 = 1.0 / (1 << 24) as f64;

/// Exponent of the levels of Karras et al.
const RHO: f64 = 7.0;

/// The levels of one run of a scheduler, the noisiest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Levels {
    /// ᾱ of every level of the training: which part of the variance is the picture's.
    pub alphas_cumprod: Vec<f64>,
    /// The level of each step in the training's numbering, which Euler's may lie between.
    pub timesteps: Vec<f64>,
    /// σ = √((1 − ᾱ) / ᾱ) of each step, and of what the last one arrives at (Euler, DPM-Solver).
    pub sigmas: Vec<f64>,
}

impl Levels {
    /// The levels for so many steps. The error is a sentence about the number of steps.
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Levels, String> {
        let most = most_steps(config);
        if !(1..=most).contains(&steps) {
            return Err(format!("expected 1 to {most}, not {steps}"));
        }
        let alphas_cumprod = alphas_cumprod(config);
        let mut timesteps = timesteps(config, steps);
        let last = config.train_timesteps - 1;
        if let Some(&first) = timesteps.first()
            && first > last as f64
        {
            return Err(format!(
                "{steps} steps with an offset of {} begin at level {first}, and the last that the model knows is {last}",
                config.steps_offset
            ));
        }
        let mut sigmas = Vec::new();
        if matches!(config.kind, SchedulerKind::Euler | SchedulerKind::DpmSolver) {
            let trained: Vec<f64> =
                alphas_cumprod.iter().map(|&alpha| ((1.0 - alpha) / alpha).sqrt()).collect();
            if config.karras {
                let (most, least) = match config.kind {
                    SchedulerKind::Euler => (at(&trained, timesteps[0]), at(&trained, timesteps[steps - 1])),
                    _ => (trained[last], trained[0]),
                };
                sigmas = karras(most, least, steps);
                timesteps = sigmas.iter().map(|&sigma| level_of(&trained, sigma)).collect();
                if config.kind == SchedulerKind::DpmSolver {
                    timesteps.iter_mut().for_each(|timestep| *timestep = timestep.round_ties_even());
                }
            } else {
                sigmas = timesteps.iter().map(|&timestep| at(&trained, timestep)).collect();
            }
            sigmas.push(if config.final_sigma_min { trained[0] } else { 0.0 });
        }
        Ok(Levels { alphas_cumprod, timesteps, sigmas })
    }

    /// ᾱ of what the last step arrives at, where it is none of the training's levels.
    pub(super) fn last_alpha(&self, set_alpha_to_one: bool) -> f64 {
        if set_alpha_to_one { 1.0 } else { self.alphas_cumprod[0] }
    }
}

/// DPM-Solver divides by the distance of two levels: there is one less of them, and none twice.
fn most_steps(config: &SchedulerConfig) -> usize {
    match config.kind {
        SchedulerKind::DpmSolver => config.train_timesteps - 1,
        _ => config.train_timesteps,
    }
}

/// ᾱ of every level, in the precision of `diffusers`: it rounds betas, alphas and their products to float32.
fn alphas_cumprod(config: &SchedulerConfig) -> Vec<f64> {
    let mut betas: Vec<f32> = match &config.betas {
        Betas::Linear { start, end } => linspace(*start as f32, *end as f32, config.train_timesteps),
        Betas::ScaledLinear { start, end } => {
            let roots = linspace(start.sqrt() as f32, end.sqrt() as f32, config.train_timesteps);
            roots.into_iter().map(|root| root * root).collect()
        }
        Betas::Trained(betas) => betas.iter().map(|&beta| beta as f32).collect(),
    };
    if config.zero_snr {
        betas = without_signal_at_the_end(&betas);
    }
    let mut alphas = products(&betas);
    if let (true, Some(last)) = (config.zero_snr, alphas.last_mut())
        && matches!(config.kind, SchedulerKind::Euler | SchedulerKind::DpmSolver)
    {
        *last = LEAST_ALPHA;
    }
    alphas
}

/// The products of the first 1, 2, … of 1 − beta.
fn products(betas: &[f32]) -> Vec<f64> {
    let mut product = 1.0;
    let alpha = |&beta: &f32| {
        product *= f64::from(1.0 - beta);
        f64::from(product as f32)
    };
    betas.iter().map(alpha).collect()
}

/// Algorithm 1 of arXiv 2305.08891: √ᾱ is shifted to 0 at the last level, and scaled so that the first
/// keeps its own.
fn without_signal_at_the_end(betas: &[f32]) -> Vec<f32> {
    let roots: Vec<f64> = products(betas).into_iter().map(f64::sqrt).collect();
    let (Some(&first), Some(&last)) = (roots.first(), roots.last()) else { return Vec::new() };
    let cumulative: Vec<f64> =
        roots.iter().map(|&root| ((root - last) * first / (first - last)).powi(2)).collect();
    let before = std::iter::once(1.0).chain(cumulative.iter().copied());
    cumulative.iter().zip(before).map(|(&alpha, before)| (1.0 - alpha / before) as f32).collect()
}

/// As `torch.linspace` computes it: from both ends.
fn linspace(start: f32, end: f32, count: usize) -> Vec<f32> {
    let step = (end - start) / (count - 1) as f32;
    let value = |i: usize| match i < count / 2 {
        true => start + step * i as f32,
        false => end - step * (count - 1 - i) as f32,
    };
    (0..count).map(value).collect()
}

/// The levels of the steps by the spacing of the configuration, the noisiest first.
fn timesteps(config: &SchedulerConfig, steps: usize) -> Vec<f64> {
    let train = config.train_timesteps;
    // DPM-Solver's last step does not end at level 0, and so its grid has one point more.
    let is_dpm = config.kind == SchedulerKind::DpmSolver;
    let points = if is_dpm { steps + 1 } else { steps };
    let from_the_end = |i: usize| points - 1 - i;
    let timestep = |i: usize| match config.spacing {
        Spacing::Linspace => {
            let at = match points {
                1 => 0.0,
                // The last point is exact.
                _ if i == 0 => (train - 1) as f64,
                _ => from_the_end(i) as f64 * ((train - 1) as f64 / (points - 1) as f64),
            };
            if config.kind == SchedulerKind::Euler { at } else { at.round_ties_even() }
        }
        Spacing::Leading => (from_the_end(i) * (train / points) + config.steps_offset) as f64,
        Spacing::Trailing => {
            (train as f64 - i as f64 * (train as f64 / steps as f64)).round_ties_even() - 1.0
        }
    };
    (0..steps).map(timestep).collect()
}

/// Equation 5 of arXiv 2206.00364.
fn karras(most: f64, least: f64, steps: usize) -> Vec<f64> {
    let (from, to) = (most.powf(1.0 / RHO), least.powf(1.0 / RHO));
    let sigma = |i: usize| {
        let part = if steps > 1 { i as f64 / (steps - 1) as f64 } else { 0.0 };
        (from + part * (to - from)).powf(RHO)
    };
    (0..steps).map(sigma).collect()
}

/// The value at a place between two of `values`.
fn at(values: &[f64], place: f64) -> f64 {
    let low = (place.max(0.0) as usize).min(values.len() - 1);
    let high = (low + 1).min(values.len() - 1);
    values[low] + (values[high] - values[low]) * (place - low as f64)
}

/// The place of `sigma` among the growing `sigmas`, on a logarithmic scale.
fn level_of(sigmas: &[f64], sigma: f64) -> f64 {
    let low = sigmas.partition_point(|&trained| trained <= sigma).saturating_sub(1).min(sigmas.len() - 2);
    let (least, most) = (sigmas[low].ln(), sigmas[low + 1].ln());
    low as f64 + ((sigma.max(1e-10).ln() - least) / (most - least)).clamp(0.0, 1.0)
}
