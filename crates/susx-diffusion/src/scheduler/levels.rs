//! Noise levels: those of the training, and those of the steps of a run.

use super::config::{Betas, SchedulerConfig, SchedulerKind, Spacing};

/// ᾱ of the last level with `rescale_betas_zero_snr`, for schedulers that divide by it.
const MIN_ALPHA: f64 = 1.0 / (1 << 24) as f64;

/// Exponent ρ of the levels of Karras et al.
const RHO: f64 = 7.0;

/// The noise levels of one run of a scheduler, the noisiest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Levels {
    /// ᾱ of every level of the training: the image's fraction of the variance.
    pub alphas_cumprod: Vec<f64>,
    /// The level of each step as a number of the training's levels; for both kinds of Euler it may be fractional.
    pub timesteps: Vec<f64>,
    /// σ = √((1 − ᾱ) / ᾱ) of each step, and of the end of the last one (both kinds of Euler, DPM-Solver; empty for
    /// others).
    pub sigmas: Vec<f64>,
}

impl Levels {
    /// The levels for a number of steps. The error is a sentence about the number of steps.
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Levels, String> {
        let max = max_steps(config);
        if !(1..=max).contains(&steps) {
            return Err(format!("expected 1 to {max}, not {steps}"));
        }
        let alphas_cumprod = alphas_cumprod(config);
        let mut timesteps = timesteps(config, steps);
        let last = config.train_timesteps - 1;
        if let Some(&first) = timesteps.first()
            && first > last as f64
        {
            return Err(format!(
                "{steps} steps with an offset of {} begin at level {first}, but the last level of the model is {last}",
                config.steps_offset
            ));
        }
        let mut sigmas = Vec::new();
        if has_sigmas(config.kind) {
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

    /// ᾱ at the end of the last step, which lies below the training's levels.
    pub(super) fn last_alpha(&self, set_alpha_to_one: bool) -> f64 {
        if set_alpha_to_one { 1.0 } else { self.alphas_cumprod[0] }
    }
}

/// Whether a scheduler computes with σ rather than with ᾱ.
fn has_sigmas(kind: SchedulerKind) -> bool {
    matches!(kind, SchedulerKind::Euler | SchedulerKind::EulerAncestral | SchedulerKind::DpmSolver)
}

/// The most steps of a run. DPM-Solver divides by the distance of two levels, so no level may occur twice.
fn max_steps(config: &SchedulerConfig) -> usize {
    match config.kind {
        SchedulerKind::DpmSolver => config.train_timesteps - 1,
        SchedulerKind::Lcm => config.original_steps,
        _ => config.train_timesteps,
    }
}

/// ᾱ of every level. Like `diffusers`, it rounds betas, alphas and their products to single precision.
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
        betas = with_zero_terminal_snr(&betas);
    }
    let mut alphas = products(&betas);
    if let (true, Some(last)) = (config.zero_snr, alphas.last_mut())
        && has_sigmas(config.kind)
    {
        *last = MIN_ALPHA;
    }
    alphas
}

/// The cumulative products of 1 − beta.
fn products(betas: &[f32]) -> Vec<f64> {
    let mut product = 1.0;
    let alpha = |&beta: &f32| {
        product *= f64::from(1.0 - beta);
        f64::from(product as f32)
    };
    betas.iter().map(alpha).collect()
}

/// Algorithm 1 of arXiv 2305.08891: shifts √ᾱ to 0 at the last level, and scales it to keep its value at the first.
fn with_zero_terminal_snr(betas: &[f32]) -> Vec<f32> {
    let roots: Vec<f64> = products(betas).into_iter().map(f64::sqrt).collect();
    let (Some(&first), Some(&last)) = (roots.first(), roots.last()) else { return Vec::new() };
    let cumulative: Vec<f64> =
        roots.iter().map(|&root| ((root - last) * first / (first - last)).powi(2)).collect();
    let before = std::iter::once(1.0).chain(cumulative.iter().copied());
    cumulative.iter().zip(before).map(|(&alpha, before)| (1.0 - alpha / before) as f32).collect()
}

/// Evenly spaced numbers, computed from both ends as by `torch.linspace`.
fn linspace(start: f32, end: f32, count: usize) -> Vec<f32> {
    let step = (end - start) / (count - 1) as f32;
    let value = |i: usize| match i < count / 2 {
        true => start + step * i as f32,
        false => end - step * (count - 1 - i) as f32,
    };
    (0..count).map(value).collect()
}

/// The levels of the steps for the spacing of the configuration, the noisiest first.
fn timesteps(config: &SchedulerConfig, steps: usize) -> Vec<f64> {
    let train = config.train_timesteps;
    if config.kind == SchedulerKind::Lcm {
        return lcm_timesteps(train, config.original_steps, steps);
    }
    // DPM-Solver's last step does not start at level 0, so its grid has one more point.
    let is_dpm = config.kind == SchedulerKind::DpmSolver;
    let points = if is_dpm { steps + 1 } else { steps };
    let from_the_end = |i: usize| points - 1 - i;
    let timestep = |i: usize| match config.spacing {
        Spacing::Linspace => {
            let at = match points {
                1 => 0.0,
                // Exact, without rounding errors.
                _ if i == 0 => (train - 1) as f64,
                _ => from_the_end(i) as f64 * ((train - 1) as f64 / (points - 1) as f64),
            };
            match config.kind {
                SchedulerKind::Euler | SchedulerKind::EulerAncestral => at,
                _ => at.round_ties_even(),
            }
        }
        Spacing::Leading => (from_the_end(i) * (train / points) + config.steps_offset) as f64,
        Spacing::Trailing => {
            (train as f64 - i as f64 * (train as f64 / steps as f64)).round_ties_even() - 1.0
        }
    };
    (0..steps).map(timestep).collect()
}

/// The levels of an LCM: of those that its solver had in the distillation, as many as there are steps.
fn lcm_timesteps(train: usize, original: usize, steps: usize) -> Vec<f64> {
    let distance = train / original;
    let skip = original as f64 / steps as f64;
    let level = |i: usize| (original - (i as f64 * skip) as usize) * distance - 1;
    (0..steps).map(|i| level(i) as f64).collect()
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

/// Linear interpolation of `values` at a fractional index.
fn at(values: &[f64], index: f64) -> f64 {
    let low = (index.max(0.0) as usize).min(values.len() - 1);
    let high = (low + 1).min(values.len() - 1);
    values[low] + (values[high] - values[low]) * (index - low as f64)
}

/// The fractional index of `sigma` among the ascending `sigmas`, on a logarithmic scale.
fn level_of(sigmas: &[f64], sigma: f64) -> f64 {
    let low = sigmas.partition_point(|&trained| trained <= sigma).saturating_sub(1).min(sigmas.len() - 2);
    let (least, most) = (sigmas[low].ln(), sigmas[low + 1].ln());
    low as f64 + ((sigma.max(1e-10).ln() - least) / (most - least)).clamp(0.0, 1.0)
}
